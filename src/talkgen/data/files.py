"""Writing files so that a reader sees all of a file or none of it, whatever happens in between."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talkgen.errors import FileError
from talkgen.unfinished import unfinished_name

log = logging.getLogger(__name__)


def temporary_name(file: str | Path) -> Path:
    """A name in the same folder that no other process uses, to be renamed to `file` when it is complete."""
    return unfinished_name(file)


def write_atomically(file: str | Path, content: bytes) -> None:
    """Write `content` under a temporary name, then rename it to `file`."""
    temporary = temporary_name(file)
    temporary.write_bytes(content)
    temporary.replace(file)


def read_description(file: Path, version: int, missing: str) -> dict[str, Any]:
    """What a folder says of itself in the JSON file that was written into it last.

    Args:
        file: of the folder.
        version: its `format`, which must be this.
        missing: what the folder is without that file, and the cure.

    Raises:
        FileError: it is absent, damaged, or of another format.
    """
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(file.parent, missing) from error
    except ValueError as error:
        raise FileError(file, f"is damaged ({error}); delete the folder") from error
    if description.get("format") != version:
        raise FileError(file, f"is of format {description.get('format')}, not {version}; delete the folder")
    return description


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process build in a folder; others wait. The lock goes with its process, however that ends."""
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process is at work in %s; waiting for it", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
