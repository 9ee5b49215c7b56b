"""Swaps that some face swapper made: a source, a target, and the target with the source's face."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from talkgen.data.clip import SPLITS, RawClip
from talkgen.data.corpora.layout import (
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    need_folder,
    read_list,
    split_by_name,
    subfolders,
    wrong_layout,
)
from talkgen.errors import FileError

PARTS = ("source", "target", "result")
TABLE = "people.csv"
TREE = """  FOLDER/
    0001/source.jpg target.mp4 result.mp4    (videos, or pictures; target and result of one size and length)
    0002/source.png target.png result.png
    people.csv                     (optional: columns name, source, target: who is seen; and if wanted split)
"""


def find_clips(source: Path, val: float = 0.05, test: float = 0.05, seed: int = 0) -> list[RawClip]:
    """Three clips for every subfolder: its source, its target, and its result.

    The result repeats the target (`swap_of`), with the identity of the source, and is cropped like the
    target. It is never taken for an ordinary clip of that person.

    Args:
        source: the folder.
        val, test: shares of the people whose faces are swapped in, where `people.csv` states no splits.
        seed: of the dealing.

    Raises:
        FileError: there is no triplet, one is incomplete, or the table names one that is not there.
    """
    need_folder(source)
    names = subfolders(source)
    if not names:
        raise wrong_layout(source, "a folder of swaps", TREE)
    rows = _read_people(source / TABLE, set(names))
    people = {
        name: (
            rows.get(name, {}).get("source") or f"{name}/source",
            rows.get(name, {}).get("target") or f"{name}/target",
        )
        for name in names
    }
    dealt = split_by_name((face for face, _ in people.values()), val, test, seed)
    clips = []
    for name in names:
        files = {part: _the_file(source, name, part) for part in PARTS}
        moving = {part: file.lower().endswith(VIDEO_SUFFIXES) for part, file in files.items()}
        if moving["target"] != moving["result"]:
            raise FileError(source / name, "target and result should be two videos or two pictures")
        face, other = people[name]
        split = rows.get(name, {}).get("split") or dealt[face]
        if split not in SPLITS:
            raise FileError(
                source / TABLE, f"split of {name} is {split!r}, should be one of {', '.join(SPLITS)}"
            )
        target = f"{name}/target"
        clips += [
            RawClip(f"{name}/source", "triplets", split, files["source"], face),
            RawClip(target, "triplets", split, files["target"], other),
            RawClip(
                f"{name}/result", "triplets", split, files["result"], face,
                # a swapper may have thrown the sound away, and changes none
                audio=files["target"] if moving["target"] else None, swap_of=target,
            ),
        ]  # fmt: skip
    return clips


def _the_file(source: Path, name: str, part: str) -> str:
    """The one video or picture of a part of a triplet."""
    found = sorted(
        file.name
        for file in (source / name).iterdir()
        if file.stem == part and file.suffix.lower() in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES)
    )
    if len(found) != 1:
        there = "is not there" if not found else f"is there {len(found)} times: {', '.join(found)}"
        raise FileError(source / name, f"{part} (a video or a picture) {there}. Expected:\n{TREE.rstrip()}")
    return f"{name}/{found[0]}"


def _read_people(file: Path, names: set[str]) -> dict[str, dict[str, str]]:
    """Rows of the table by triplet; empty where there is none."""
    if not file.is_file():
        return {}
    reader = csv.DictReader(io.StringIO(read_list(file), newline=""))
    if lacking := {"name", "source", "target"} - set(reader.fieldnames or ()):
        raise FileError(file, f"has no column {', '.join(sorted(lacking))}")
    rows = {row["name"]: row for row in reader}
    if missing := sorted(set(rows) - names):
        raise FileError(file, f"names {len(missing)} triplets that are not there, the first: {missing[0]}")
    return rows
