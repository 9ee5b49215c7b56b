"""LRW (Chung & Zisserman, ACCV 2016): one English word a clip, 29 frames of 256 pixels at 25 fps, from the
BBC.

Splits are official: the folders `train`, `val` and `test` of every word. Speakers are not named, so that
every clip counts as an identity of its own, and the same person may be in several splits.
"""

from __future__ import annotations

from pathlib import Path

from talkgen.data.clip import SPLITS, RawClip
from talkgen.data.corpora.layout import find_videos, need_folder, subfolders, wrong_layout

TREE = """  FOLDER/
    lipread_mp4/ABOUT/{train,val,test}/ABOUT_00001.mp4 …   (with ABOUT_00001.txt beside it)
"""


def find_clips(source: Path, words: tuple[str, ...] = ()) -> list[RawClip]:
    """The clips of LRW.

    Args:
        source: folder that holds `lipread_mp4`, or that folder itself.
        words: only these; empty: all.

    Raises:
        FileError: the folder has not the official tree.
    """
    need_folder(source)
    inside = "lipread_mp4/" if (source / "lipread_mp4").is_dir() else ""
    clips = []
    for word in subfolders(source / inside):
        if words and word not in words:
            continue
        for split in SPLITS:
            folder = source / inside / word / split
            if not folder.is_dir():
                continue
            for file in find_videos(folder):
                name = Path(file).stem
                clips.append(
                    RawClip(
                        id=f"{split}/{name}",
                        corpus="lrw",
                        split=split,
                        video=f"{inside}{word}/{split}/{file}",
                        identity=f"{split}/{name}",
                        language="en",
                        notes=f"word {word}",
                    )
                )
    if not clips:
        raise wrong_layout(source, "LRW", TREE)
    return clips
