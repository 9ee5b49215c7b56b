"""Writing files so that a reader sees all of a file or none of it, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path


def temporary_name(file: str | Path) -> Path:
    """A name in the same folder that no other process uses, to be renamed to `file` when it is complete."""
    file = Path(file)
    return file.with_name(f".{file.name}.{os.getpid()}.partial")


def write_atomically(file: str | Path, content: bytes) -> None:
    """Write `content` under a temporary name, then rename it to `file`."""
    temporary = temporary_name(file)
    temporary.write_bytes(content)
    temporary.replace(file)
