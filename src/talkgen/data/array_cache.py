"""One array for every clip of a store, computed once: coefficients of a morphable model, features of a sound.

::

    cache.json     key and the clips in order with their rows; written last
    array.npy      the rows of all clips, one after the other
    parts/         while it is made: a file a clip, so that what was killed goes on where it was
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from talkgen.data.clip import Clip
from talkgen.data.clip_rows import FORMAT, ClipRows
from talkgen.data.files import only_one, write_array, write_atomically
from talkgen.data.store import Store
from talkgen.errors import FileError


class ArrayCache(ClipRows):
    """An array a clip: rows (rows, dim), of the same dim for every clip."""

    description_file = "cache.json"
    array_file = "array.npy"
    unit = "rows"
    missing = "holds no complete arrays; the command that makes them goes on"
    foreign = "holds arrays of another corpus or another network; delete it"
    array = ClipRows.rows

    @property
    def dim(self) -> int:
        """Length of a row."""
        return int(self._rows.shape[1])

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
        with only_one(folder):
            if not (folder / "cache.json").is_file():
                _make(folder, store.clips if clips is None else clips, key, make, title, progress)
        cache = cls.open(folder)
        cache.need(key)
        return cache


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
            write_array(file, make(clip))
    arrays = [np.load(file, allow_pickle=False) for file in files]
    write_array(folder / "array.npy", np.concatenate(arrays))
    rows = {clip.id: len(array) for clip, array in zip(clips, arrays, strict=True)}
    description = {"format": FORMAT, "key": key, "clips": rows}
    write_atomically(folder / "cache.json", json.dumps(description, ensure_ascii=False).encode())
    shutil.rmtree(parts, ignore_errors=True)
