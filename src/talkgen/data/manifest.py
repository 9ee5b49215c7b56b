"""A manifest is a list of clips, one JSON object a line; every corpus becomes one, and nothing else is
read later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import TypeVar, get_args, get_origin, get_type_hints

from talkgen.data.clip import Clip, RawClip, from_json, to_json
from talkgen.data.files import write_atomically
from talkgen.errors import FileError

_Line = TypeVar("_Line", RawClip, Clip)

LARGEST = 1e9
"""No time, size or count of a clip is as large; what is was damaged."""


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
            refuse_mistyped(clip)
        except (OverflowError, RecursionError, TypeError, ValueError) as error:
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
    except UnicodeDecodeError as error:
        raise FileError(file, f"is no text in UTF-8 ({error}); it is damaged") from error
    return parse_manifest(text, kind, file)


def refuse_mistyped(clip: RawClip | Clip) -> None:
    """Refuse values of another kind than the fields', which would be met far from the manifest.

    Raises:
        TypeError, ValueError, OverflowError: names the field and the value.
    """
    for name, kinds, said in _kinds(type(clip)):  # type: ignore[arg-type]
        value = getattr(clip, name)
        if type(value) not in kinds:
            raise TypeError(f"{name} is {str(value)[:80]!r}, should be {said}")
        if type(value) in (float, int) and not (math.isfinite(value) and abs(value) < LARGEST):
            raise ValueError(f"{name} is {value}")
        if type(value) is str and not value.isascii():
            value.encode()  # half a surrogate pair is no text that can be written


@lru_cache
def _kinds(kind: type) -> tuple[tuple[str, frozenset[type], str], ...]:
    """Name, types that JSON may give, and how to say them, of every field."""
    rows = []
    for name, hint in get_type_hints(kind).items():
        types = {
            get_origin(one) or one for one in (get_args(hint) if get_origin(hint) is UnionType else (hint,))
        }
        allowed = {dict if one is Mapping else one for one in types} | ({int} if float in types else set())
        words = sorted("none" if one is type(None) else one.__name__ for one in allowed)
        rows.append((name, frozenset(allowed), " or ".join(words)))
    return tuple(rows)
