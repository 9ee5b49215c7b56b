"""Any folder of videos, with or without a table that says who is seen in them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from talkgen.data.clip import SPLITS, RawClip
from talkgen.data.corpora.layout import find_videos, need_folder, read_list, split_by_name, wrong_layout
from talkgen.errors import FileError

TABLES = ("clips.csv", "clips.tsv", "manifest.csv", "manifest.tsv")
TREE = """  FOLDER/
    any/subfolders/video.mp4       (a folder directly below FOLDER is taken for a person,
                                    or for a split if it is called train, val or test)
    clips.csv                      (optional: columns file, identity, and if wanted split, language)
"""


def find_clips(source: Path, val: float = 0.1, test: float = 0.1, seed: int = 0) -> list[RawClip]:
    """Every video below a folder.

    Who is seen, and in which split a clip is, comes from a table (`clips.csv` or `manifest.tsv`, with a
    column `file`, `clip` or `video` and optional columns `identity`, `language` and `split`); else from
    the folders; else every file is a person of its own. Splits that nothing states are dealt by identity,
    so that nobody is in two of them.

    Args:
        source: the folder.
        val, test: shares of identities, where splits are dealt.
        seed: of the dealing.

    Raises:
        FileError: there is no video, or a table names a file that is not there.
    """
    need_folder(source)
    videos = find_videos(source)
    if not videos:
        raise wrong_layout(source, "a folder of videos", TREE)
    rows = read_table(source, set(videos))
    named = {video: rows.get(video, {}) for video in (rows or videos)}
    people = {video: row.get("identity") or _identity(video) for video, row in named.items()}
    dealt = split_by_name(people.values(), val, test, seed)
    clips = []
    for video in sorted(named):
        row, first = named[video], video.split("/")[0]
        split = row.get("split") or (first if "/" in video and first in SPLITS else dealt[people[video]])
        if split not in SPLITS:
            raise FileError(source, f"split of {video} is {split!r}, should be one of {', '.join(SPLITS)}")
        clips.append(
            RawClip(
                id=str(Path(video).with_suffix("")),
                corpus="folder",
                split=split,
                video=video,
                identity=people[video],
                language=row.get("language") or None,
            )
        )
    if len({clip.id for clip in clips}) < len(clips):  # a.mp4 beside a.mov
        clips = [RawClip(**{**vars(clip), "id": clip.video}) for clip in clips]
    return clips


def _identity(video: str) -> str:
    folders = video.split("/")[:-1]
    if folders and folders[0] in SPLITS:
        folders = folders[1:]
    return folders[0] if folders else Path(video).stem


def read_table(source: Path, videos: set[str]) -> dict[str, dict[str, str]]:
    """Rows of the table of a folder by video (or picture); empty where there is none.

    Raises:
        FileError: it names a file that is not there, or no files at all.
    """
    for name in TABLES:
        file = source / name
        if file.is_file():
            break
    else:
        return {}
    dialect = "excel-tab" if name.endswith("tsv") else "excel"
    reader = csv.DictReader(io.StringIO(read_list(file), newline=""), dialect=dialect)
    column = next((c for c in ("file", "clip", "video") if c in (reader.fieldnames or ())), None)
    if column is None:
        raise FileError(
            file, f"has no column file, clip or video; it has {', '.join(reader.fieldnames or ())}"
        )
    try:
        rows = {Path(row[column]).as_posix(): row for row in reader if row[column]}
    except csv.Error as error:
        raise FileError(file, f"cannot be read at line {reader.line_num} ({error})") from error
    if missing := sorted(set(rows) - videos):
        raise FileError(file, f"names {len(missing)} videos that are not there, the first: {missing[0]}")
    return rows
