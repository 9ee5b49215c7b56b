"""A folder of pictures of faces, as FFHQ and CelebA are: each becomes a clip of one frame without sound."""

from __future__ import annotations

from pathlib import Path

from talkgen.data.clip import SPLITS, RawClip
from talkgen.data.corpora.folder import read_table
from talkgen.data.corpora.layout import (
    PICTURE_SUFFIXES,
    find_videos,
    need_folder,
    read_list,
    split_by_name,
    wrong_layout,
)
from talkgen.errors import FileError

CELEBA_PEOPLE = "identity_CelebA.txt"
CELEBA_SPLITS = "list_eval_partition.txt"
TREE = """  FOLDER/
    any/subfolders/picture.png     (or .jpg, .webp, .bmp; a folder called train, val or test is a split)
    clips.csv                      (optional: columns file, and if wanted identity, split)
    identity_CelebA.txt list_eval_partition.txt   (optional: CelebA's own lists, here or in Anno/ and Eval/)
"""


def find_clips(source: Path, val: float = 0.02, test: float = 0.02, seed: int = 0) -> list[RawClip]:
    """Every picture below a folder.

    Who is seen, and in which split a picture is, comes from `clips.csv` (see `corpora.folder`), else from
    CelebA's lists; else every picture shows a person of its own (folders of FFHQ are numbers, not people).
    Splits that nothing states are dealt by identity.

    Args:
        source: the folder.
        val, test: shares of identities, where splits are dealt.
        seed: of the dealing.

    Raises:
        FileError: there is no picture, or a table names one that is not there.
    """
    need_folder(source)
    pictures = find_videos(source, PICTURE_SUFFIXES)
    if not pictures:
        raise wrong_layout(source, "a folder of pictures", TREE)
    rows = read_table(source, set(pictures))
    known, parts = _celeba_list(source, "Anno", CELEBA_PEOPLE), _celeba_list(source, "Eval", CELEBA_SPLITS)
    people, splits = {}, {}
    for picture in rows or pictures:
        name, row = Path(picture).name, rows.get(picture, {})
        people[picture] = row.get("identity") or known.get(name) or str(Path(picture).with_suffix(""))
        stated = SPLITS[int(parts[name])] if name in parts else None
        folder = picture.split("/")[0] if "/" in picture else ""
        splits[picture] = row.get("split") or (folder if folder in SPLITS else stated)
    dealt = split_by_name(people.values(), val, test, seed)
    clips = []
    for picture in sorted(people):
        split = splits[picture] or dealt[people[picture]]
        if split not in SPLITS:
            raise FileError(source, f"split of {picture} is {split!r}, should be one of {', '.join(SPLITS)}")
        # the suffix stays, because a.png may lie beside a.jpg
        clips.append(RawClip(picture, "images", split, picture, people[picture]))
    return clips


def _celeba_list(source: Path, folder: str, name: str) -> dict[str, str]:
    """File name → value of one of CelebA's lists of two columns; empty where it is not there."""
    for file in (source / name, source / folder / name):
        if file.is_file():
            rows = [line.split() for line in read_list(file).splitlines() if line.strip()]
            if any(len(row) != 2 or not row[1].isdecimal() for row in rows):
                raise FileError(file, "should have two columns, a file name and a number")
            if name == CELEBA_SPLITS and any(int(row[1]) >= len(SPLITS) for row in rows):
                raise FileError(file, "should have 0, 1 or 2 (train, val or test) in its second column")
            return {row[0]: row[1] for row in rows}
    return {}
