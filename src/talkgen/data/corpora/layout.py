"""What adapters share: finding videos, saying which tree was expected, and splits where a corpus has none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from talkgen.errors import FileError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv")


def find_videos(folder: Path, suffixes: tuple[str, ...] = VIDEO_SUFFIXES) -> list[str]:
    """Videos below a folder, as paths relative to it with forward slashes, sorted; hidden files are passed
    over, and links that lead back to a folder above them.

    Args:
        folder: where to look.
        suffixes: ends of the names of what is looked for, in lower case.

    Raises:
        FileError: a name is not Unicode, so that no manifest can hold it.
    """
    found = sorted(_videos(folder, "", frozenset(), suffixes))
    for name in found:
        if not name.isprintable() and any("\ud800" <= character <= "\udfff" for character in name):
            raise FileError(folder, f"the name {name!r} is not UTF-8; rename the file")
    return found


def _videos(
    folder: Path, prefix: str, above: frozenset[tuple[int, int]], suffixes: tuple[str, ...]
) -> Iterator[str]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in above:
        return
    above |= {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:  # several times faster than pathlib on a million files
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from _videos(folder / entry.name, f"{prefix}{entry.name}/", above, suffixes)
            elif entry.name.lower().endswith(suffixes):
                yield prefix + entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def read_list(file: Path) -> str:
    """The text of a list or table of a corpus.

    Raises:
        FileError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(
            file, f"is not UTF-8 text ({error.reason} at byte {error.start}); save it so"
        ) from error


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def need_folder(source: Path) -> None:
    """Refuse a source that is no folder."""
    if not source.is_dir():
        raise FileError(source, "no such folder; give the folder of the corpus as source=…")


def wrong_layout(source: Path, corpus: str, tree: str) -> FileError:
    """The error for a folder that does not look like the corpus."""
    return FileError(source, f"does not look like {corpus}. Expected:\n{tree.rstrip()}\nSee data/README.md")


def split_by_name(names: Iterable[str], val: float, test: float, seed: int = 0) -> dict[str, str]:
    """Deal names (identities, as a rule) to train, val and test by their hashes.

    From three names on, each of val and test gets at least one where its share is not 0; fewer are all train.

    Args:
        names: what is dealt; repeats count once.
        val, test: shares.
        seed: another one gives another split.

    Returns:
        name → split.
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise ValueError(f"shares of val and test must leave something to train, got {val} and {test}")
    ranked = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    tests = max(1, round(test * len(ranked))) if test and len(ranked) >= 3 else 0
    vals = max(1, round(val * len(ranked))) if val and len(ranked) >= 3 else 0
    dealt = dict.fromkeys(ranked, "train")
    dealt.update(dict.fromkeys(ranked[:tests], "test"))
    dealt.update(dict.fromkeys(ranked[tests : tests + vals], "val"))
    return dealt
