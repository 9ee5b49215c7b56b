"""One array for every clip of a store, computed once: coefficients of a morphable model, features of a sound.

::

    cache.json     key and the clips in order with their rows; written last
    array.npy      the rows of all clips, one after the other
    parts/         while it is made: a file a clip, so that what was killed goes on where it was
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from talkgen.data.clip import Clip
from talkgen.data.files import read_description, temporary_name, write_atomically
from talkgen.data.store import Store
from talkgen.errors import FileError

FORMAT = 1


class ArrayCache:
    """An array a clip, as one memory map, which all processes of a machine share.

    Pickling sends the folder alone.

    Attributes:
        folder: where it lies.
        key: what the arrays depend on.
        dim: length of a row.
    """

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.key: str = description["key"]
        rows = list(description["clips"].values())
        ends = np.cumsum(rows, dtype=np.int64)
        self._range = {
            name: (int(end) - count, int(end))
            for name, end, count in zip(description["clips"], ends, rows, strict=True)
        }
        self._array = np.load(folder / "array.npy", mmap_mode="r", allow_pickle=False)
        self.dim: int = self._array.shape[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayCache.open, (self.folder,)

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._range

    @classmethod
    def open(cls, folder: str | Path) -> ArrayCache:
        """The cache in a folder.

        Raises:
            FileError: there is no complete one.
        """
        folder = Path(folder)
        missing = "holds no complete arrays; the command that makes them goes on"
        description = read_description(folder / "cache.json", FORMAT, missing)
        return cls(folder, description)

    @classmethod
    def build(
        cls,
        folder: str | Path,
        store: Store,
        key: str,
        make: Callable[[Clip], np.ndarray],
        title: str,
        progress: bool = True,
        clips: Sequence[Clip] | None = None,
    ) -> ArrayCache:
        """Make what is missing, and open it. One process makes it; others wait.

        Args:
            folder: where.
            store: the clips.
            key: what the arrays depend on, beside the clips themselves.
            make: a clip → its array (rows, dim), of the same dim for every clip.
            title: of the bar.
            progress: show it.
            clips: those of the store that are wanted; None: all.

        Raises:
            FileError: there are no clips, or the folder holds arrays of something else.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        key = f"{key} {store.description['manifest_sha256']}"
        with _only_one(folder):
            if not (folder / "cache.json").is_file():
                _make(folder, store.clips if clips is None else clips, key, make, title, progress)
        cache = cls.open(folder)
        if cache.key != key:
            raise FileError(folder, "holds arrays of another corpus or another network; delete it")
        return cache

    def array(self, clip_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of a clip (to its end by default); a copy.

        Raises:
            KeyError: there is no such clip.
            IndexError: it has no such rows.
        """
        first, last = self._range[clip_id]
        stop = last - first if stop is None else stop
        if not 0 <= start <= stop <= last - first:
            raise IndexError(f"clip {clip_id} has {last - first} rows, wanted {start} to {stop}")
        return np.array(self._array[first + start : first + stop])


def _make(
    folder: Path,
    clips: Sequence[Clip],
    key: str,
    make: Callable[[Clip], np.ndarray],
    title: str,
    progress: bool,
) -> None:
    if not clips:
        raise FileError(folder, "nothing to make: the store has no clips")
    parts = folder / "parts"
    record = parts / "key"
    if not record.is_file() or record.read_text(encoding="utf-8") != key:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        write_atomically(record, key.encode())
    files = [parts / f"{quote(clip.id, safe='')}.npy" for clip in clips]
    for clip, file in tqdm(
        list(zip(clips, files, strict=True)), desc=title, unit="clip", disable=not progress
    ):
        if not file.is_file():
            temporary = temporary_name(file).with_suffix(".npy")
            np.save(temporary, make(clip))
            temporary.replace(file)
    arrays = [np.load(file, allow_pickle=False) for file in files]
    temporary = temporary_name(folder / "array.npy").with_suffix(".npy")
    np.save(temporary, np.concatenate(arrays))
    temporary.replace(folder / "array.npy")
    rows = {clip.id: len(array) for clip, array in zip(clips, arrays, strict=True)}
    description = {"format": FORMAT, "key": key, "clips": rows}
    write_atomically(folder / "cache.json", json.dumps(description, ensure_ascii=False).encode())
    shutil.rmtree(parts, ignore_errors=True)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Let one process build; the lock goes with its process, however that ends."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
