"""A manifest is a list of clips, one JSON object a line; every corpus becomes one, and nothing else is
read later.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from talkgen.data.clip import Clip, RawClip, from_json, to_json
from talkgen.data.files import write_atomically
from talkgen.errors import FileError

_Line = TypeVar("_Line", RawClip, Clip)


def write_manifest(file: str | Path, clips: Iterable[RawClip | Clip]) -> None:
    """Write one line a clip, under a temporary name first."""
    write_atomically(file, "".join(to_json(clip) + "\n" for clip in clips).encode())


def parse_manifest(text: str, kind: type[_Line], name: str | Path) -> list[_Line]:
    """Read the lines of a manifest; `name` is what an error calls it.

    Raises:
        FileError: a line cannot be read (with its number), or two clips have one id.
    """
    clips: list[_Line] = []
    seen: set[str] = set()
    # not splitlines(), which also cuts at the line separators that JSON leaves as they are inside strings
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            clip = from_json(line, kind)
        except (ValueError, TypeError) as error:
            raise FileError(name, f"line {number}: {error}") from error
        if clip.id in seen:
            raise FileError(name, f"line {number}: a second clip with id {clip.id!r}")
        seen.add(clip.id)
        clips.append(clip)
    return clips


def read_manifest(file: str | Path, kind: type[_Line]) -> list[_Line]:
    """Read a manifest file.

    Raises:
        FileError: the file is absent, or a line of it cannot be read.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FileError(file, "no such manifest; `talkgen prepare` makes it") from error
    return parse_manifest(text, kind, file)
