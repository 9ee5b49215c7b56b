"""What was computed once of every clip of a store: rows of all clips in one memory map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from talkgen.data.files import read_description
from talkgen.errors import FileError

FORMAT = 1

Rows = TypeVar("Rows", bound="ClipRows")


class ClipRows:
    """A folder with an array whose rows are those of all clips, one after the other, and what it says of
    itself: its key and the clips in order with their rows.

    The array is one memory map, which all processes of a machine share. Pickling sends the folder alone.

    Attributes:
        folder: where it lies.
        key: what the rows depend on.
    """

    description_file: ClassVar[str]
    array_file: ClassVar[str]
    unit: ClassVar[str]
    """What a row stands for."""
    missing: ClassVar[str]
    """What a folder without a description is, and the cure."""
    foreign: ClassVar[str]
    """What a folder with another key is, and the cure."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.key: str = description["key"]
        lengths: dict[str, int] = description["clips"]
        self._place = {name: number for number, name in enumerate(lengths)}
        self._ends = np.cumsum(list(lengths.values()), dtype=np.int64)
        self._rows = np.load(folder / self.array_file, mmap_mode="r", allow_pickle=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).open, (self.folder,)

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._place

    @classmethod
    def open(cls: type[Rows], folder: str | Path) -> Rows:
        """That in a folder.

        Raises:
            FileError: there is no complete one.
        """
        folder = Path(folder)
        return cls(folder, read_description(folder / cls.description_file, FORMAT, cls.missing))

    def need(self, key: str) -> None:
        """Refuse rows of something else.

        Raises:
            FileError: these have another key.
        """
        if self.key != key:
            raise FileError(self.folder, self.foreign)

    def rows(self, clip_id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` of a clip (to its end by default); a copy.

        Raises:
            KeyError: there is no such clip.
            IndexError: it has no such rows.
        """
        first, count = self._range(clip_id)
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise IndexError(f"clip {clip_id} has {count} {self.unit}, wanted {start} to {stop}")
        return np.array(self._rows[first + start : first + stop])

    def rows_at(self, clip_id: str, numbers: Sequence[int]) -> np.ndarray:
        """The rows of a clip with these numbers; raises as :meth:`rows`."""
        first, count = self._range(clip_id)
        wanted = np.asarray(numbers, np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < count):
            raise IndexError(f"clip {clip_id} has {count} {self.unit}, wanted {wanted.tolist()}")
        return np.asarray(self._rows[first + wanted])

    def _range(self, clip_id: str) -> tuple[int, int]:
        """First row of a clip, and how many it has."""
        place = self._place[clip_id]
        first = int(self._ends[place - 1]) if place else 0
        return first, int(self._ends[place]) - first
