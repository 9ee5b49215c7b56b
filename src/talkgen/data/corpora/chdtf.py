"""CHDTF (DisentTalk): Mandarin news anchors. It was announced with the paper and never released.

All that is known is the form of its file names on the paper's page, and five anchors; so this adapter
serves those who have the files, or who name their own recordings in the same way. There is no published
split; with so few people the default deals clips, not identities: the scores of such a test say nothing
about new people.
"""

from __future__ import annotations

import re
from pathlib import Path

from talkgen.data.clip import RawClip
from talkgen.data.corpora.layout import find_videos, need_folder, split_by_name, wrong_layout

TREE = """  FOLDER/
    any/subfolders/baoxiaofeng_3_crop_256_000.mp4 …   (ANCHOR_NUMBER_crop_A_B.mp4)
"""
_NAME = re.compile(r"(?P<anchor>.+?)_(?P<number>\d+)_crop_\w+")


def find_clips(
    source: Path, val: float = 0.05, test: float = 0.1, seed: int = 0, split_by: str = "clip"
) -> list[RawClip]:
    """The clips of CHDTF.

    Args:
        source: folder of the corpus.
        val, test: shares.
        seed: of the dealing.
        split_by: `clip`: pieces of one recording (same anchor and number) stay together; `identity`:
        anchors do.

    Raises:
        FileError: there is no video with such a name.
    """
    need_folder(source)
    if split_by not in ("clip", "identity"):
        raise ValueError(f"split_by is clip or identity, not {split_by!r}")
    named = {video: match for video in find_videos(source) if (match := _NAME.fullmatch(Path(video).stem))}
    if not named:
        raise wrong_layout(source, "CHDTF", TREE)

    def unit(match: re.Match[str]) -> str:
        return match["anchor"] if split_by == "identity" else f"{match['anchor']}_{match['number']}"

    dealt = split_by_name(map(unit, named.values()), val, test, seed)
    return [
        RawClip(
            id=str(Path(video).with_suffix("")),
            corpus="chdtf",
            split=dealt[unit(match)],
            video=video,
            identity=match["anchor"],
            language="zh",
        )
        for video, match in sorted(named.items())
    ]
