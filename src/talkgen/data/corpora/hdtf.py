"""HDTF (Zhang et al., CVPR 2021): 1080p and 720p talking heads from YouTube, by lists in
github.com/MRzzm/HDTF.

HDTF has no official split. The one used here is by identity, dealt by a seeded hash, 10 % test and 5 %
validation; papers that report on HDTF mostly do not say which clips they held out.
"""

from __future__ import annotations

import re
from pathlib import Path

from talkgen.data.clip import RawClip
from talkgen.data.corpora.layout import find_videos, need_folder, read_list, split_by_name, wrong_layout
from talkgen.errors import FileError

SUBSETS = ("RD", "WDA", "WRA")
TREE = """  FOLDER/
    HDTF_dataset/{RD,WDA,WRA}_annotion_time.txt   (from github.com/MRzzm/HDTF; for whole videos)
    videos/Radio11.mp4 AdamSchiff.mp4 …           (whole videos, by the names of *_video_url.txt)
  or, cut already as the authors describe (no lists needed):
    any/subfolders/Radio11_0.mp4 Radio11_1.mp4 …  (also WDA_AdamSchiff_000.mp4)
"""
_CUT = re.compile(r"(?:(?:RD|WDA|WRA)_)?(?P<name>.+)_(?P<number>\d+)")


def find_clips(source: Path, val: float = 0.05, test: float = 0.1, seed: int = 0) -> list[RawClip]:
    """The clips of HDTF, from whole videos with the official time stamps or from clips that were cut by them.

    Args:
        source: folder of the corpus.
        val, test: shares of identities; HDTF has no official split.
        seed: of the dealing.

    Raises:
        FileError: there are no videos, or whole videos without the lists that say which parts are meant.
    """
    need_folder(source)
    times = _read_times(source)
    found: dict[str, tuple[str, float, float | None]] = {}  # clip → video, start, end
    whole: dict[str, str] = {}
    for video in find_videos(source):
        stem = re.sub(r"^(?:RD|WDA|WRA)_", "", Path(video).stem)
        cut = _CUT.fullmatch(stem)
        if stem in times or cut is None:
            whole[stem] = video
        else:
            found[f"{cut['name']}_{int(cut['number'])}"] = (video, 0.0, None)
    if not whole and not found:
        raise wrong_layout(source, "HDTF", TREE)
    if whole and not times:
        raise FileError(
            source,
            f"{next(iter(whole.values()))} is a whole video, and no HDTF_dataset/*_annotion_time.txt "
            f"is there to say which parts of it are meant. Expected:\n{TREE.rstrip()}",
        )
    for name, video in whole.items():
        for number, (start, end) in enumerate(times.get(name, [])):
            found.setdefault(f"{name}_{number}", (video, start, end))
    if not found:
        raise FileError(source, "none of its videos is in the lists of HDTF")
    split = split_by_name((identity_of(clip) for clip in found), val, test, seed)
    return [
        RawClip(
            id=clip,
            corpus="hdtf",
            split=split[identity_of(clip)],
            video=video,
            identity=identity_of(clip),
            language="en",
            start_seconds=start,
            end_seconds=end,
        )
        for clip, (video, start, end) in sorted(found.items())
    ]


def identity_of(clip: str) -> str:
    """Who is seen: `AmyKlobuchar1_0` → `AmyKlobuchar`; in `RadioN` every number is another speaker."""
    name = clip.rpartition("_")[0]
    return name if re.fullmatch(r"(?i)radio\d+", name) else re.sub(r"\d+$", "", name)


def _read_times(source: Path) -> dict[str, list[tuple[float, float]]]:
    """Video → stretches in seconds, of all lists that lie in the folder or in its `HDTF_dataset`."""
    times: dict[str, list[tuple[float, float]]] = {}
    for subset in SUBSETS:
        for folder in (source, source / "HDTF_dataset"):
            file = folder / f"{subset}_annotion_time.txt"
            if not file.is_file():
                continue
            for number, line in enumerate(read_list(file).splitlines(), start=1):
                if not line.strip():
                    continue
                video, *stretches = line.split()
                try:
                    parsed = [tuple(map(_seconds, stretch.split("-"))) for stretch in stretches]
                    times[Path(video).stem] = [(start, end) for start, end in parsed]
                    if any(end <= start for start, end in times[Path(video).stem]):
                        raise ValueError("a stretch ends before it starts")
                except ValueError as error:
                    raise FileError(
                        file, f"line {number} cannot be read: {line.strip()!r} ({error})"
                    ) from error
    return times


def _seconds(stamp: str) -> float:
    """`01:35` → 95, `1:02:03` → 3723."""
    seconds = 0.0
    for part in stamp.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds
