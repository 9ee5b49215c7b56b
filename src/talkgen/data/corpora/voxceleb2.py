"""VoxCeleb2 (Chung et al., Interspeech 2018): 224-pixel faces of celebrities from YouTube, cut to utterances.

Official split: `dev` (5,994 identities) and `test` (118 others). There is no official validation set; the
one used here is a seeded choice of dev identities.
"""

from __future__ import annotations

import csv
from pathlib import Path

from talkgen.data.clip import RawClip
from talkgen.data.corpora.layout import (
    find_videos,
    need_folder,
    read_list,
    split_by_name,
    subfolders,
    wrong_layout,
)
from talkgen.errors import FileError

TREE = """  FOLDER/
    dev/mp4/id00012/21Uxsk56VDQ/00001.mp4 …
    test/mp4/id00017/01dfn2spqyE/00001.mp4 …       (either may be absent)
  or, without dev and test:
    mp4/id00012/21Uxsk56VDQ/00001.mp4 …
    vox2_meta.csv                                  (the official table; says who is in test)
"""


def find_clips(source: Path, val: float = 0.01, seed: int = 0) -> list[RawClip]:
    """The utterances of VoxCeleb2.

    Args:
        source: folder of the corpus.
        val: share of the dev identities that becomes validation.
        seed: of that choice.

    Raises:
        FileError: the folder has not the official tree.
    """
    need_folder(source)
    videos = {part: f"{part}/mp4" for part in ("dev", "test") if (source / part / "mp4").is_dir()}
    sets: dict[str, str] = {}
    if not videos and (source / "mp4").is_dir():
        sets = _read_sets(source)
        videos = {"": "mp4"}
    people = {part: subfolders(source / folder) for part, folder in videos.items()}
    if not any(people.values()):
        raise wrong_layout(source, "VoxCeleb2", TREE)
    held_out = {person for person, part in sets.items() if part == "test"} | set(people.get("test", ()))
    dealt = split_by_name(
        {person for part in people.values() for person in part if person not in held_out}, val, 0.0, seed
    )
    clips = []
    for part, folder in videos.items():
        for person in people[part]:
            split = "test" if person in held_out else dealt[person]
            for file in find_videos(source / folder / person):
                name = f"{person}/{Path(file).with_suffix('').as_posix()}"
                clips.append(RawClip(name, "voxceleb2", split, f"{folder}/{person}/{file}", person))
    if not clips:
        raise wrong_layout(source, "VoxCeleb2", TREE)
    return clips


def _read_sets(source: Path) -> dict[str, str]:
    """Identity → `dev` or `test`, from vox2_meta.csv (whose column names and fields end in spaces)."""
    file = source / "vox2_meta.csv"
    if not file.is_file():
        raise wrong_layout(source, "VoxCeleb2", TREE)
    rows = [[field.strip() for field in row] for row in csv.reader(read_list(file).splitlines())]
    if not rows or "VoxCeleb2 ID" not in rows[0] or "Set" not in rows[0]:
        raise FileError(file, "is not the official table: it has no columns 'VoxCeleb2 ID' and 'Set'")
    person, part = rows[0].index("VoxCeleb2 ID"), rows[0].index("Set")
    return {row[person]: row[part] for row in rows[1:] if len(row) > max(person, part)}
