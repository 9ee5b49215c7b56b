"""Writing files so that a reader sees all of a file or none of it, whatever happens in between."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO

from talkgen.errors import FileError
from talkgen.unfinished import unfinished_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def temporary_name(file: str | Path) -> Path:
    """A name in the same folder that no other process uses, to be renamed to `file` when it is complete."""
    return unfinished_name(file)


@contextmanager
def written_atomically(file: str | Path) -> Iterator[BinaryIO]:
    """A stream into a temporary file, which is renamed to `file` at the end, or removed after an error."""
    temporary = temporary_name(file)
    try:
        with temporary.open("wb") as stream:
            yield stream
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(file: str | Path, content: bytes) -> None:
    """Write `content` under a temporary name, then rename it to `file`."""
    with written_atomically(file) as stream:
        stream.write(content)


def write_array(file: str | Path, array: NDArray[Any]) -> None:
    """`numpy.save` under a temporary name, then rename.

    To a file, NumPy writes by itself and does not say that the disk is full; to anything else it hands bytes.
    """
    import numpy as np

    with written_atomically(file) as stream:
        np.save(SimpleNamespace(write=stream.write), array, allow_pickle=False)


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
