"""What networks made of frames, kept on disk by the frames' content for the next evaluation."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from talkgen.data.files import write_array

if TYPE_CHECKING:
    from collections.abc import Iterator


class FeatureCache:
    """Arrays by key, one file each. When it grows past its limit, what was not used for longest goes.

    Several processes may use one folder: a file appears as a whole, and the same key has the same content.

    Args:
        folder: made when something is kept.
        limit_bytes: of all files together; looked at by :meth:`trim`.
    """

    def __init__(self, folder: str | Path, limit_bytes: int) -> None:
        self.folder = Path(folder)
        self.limit_bytes = limit_bytes
        self.found = 0
        self.kept = 0

    def get(self, key: str) -> NDArray[np.generic] | None:
        """The array of a key; None where there is none. A damaged file is removed and counts as none."""
        file = self._file(key)
        try:
            array: NDArray[np.generic] = np.load(file, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):
            file.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(file)  # used now
        self.found += 1
        return array

    def put(self, key: str, array: NDArray[np.generic]) -> None:
        """Keep an array."""
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_array(file, array)
        self.kept += 1

    def trim(self) -> int:
        """Remove what was not used for longest until the rest is below the limit; bytes that are left."""
        files = []
        for file in self.folder.glob("*/*.npy"):
            with suppress(FileNotFoundError):
                status = file.stat()
                files.append((status.st_mtime, status.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self.limit_bytes:
                break
            file.unlink(missing_ok=True)
            total -= size
        return total

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.npy"


_current: FeatureCache | None = None


def current_cache() -> FeatureCache | None:
    """The cache in use, if any."""
    return _current


@contextmanager
def remembering(cache: FeatureCache | None) -> Iterator[FeatureCache | None]:
    """Use a cache in everything that is computed inside, and trim it in the end."""
    global _current
    before, _current = _current, cache
    try:
        yield cache
    finally:
        _current = before
        if cache is not None:
            cache.trim()
