"""The clips of a store as a sequence that takes 30 bytes a clip, however long its manifest is.

A million `Clip` objects take more than a gigabyte and half a minute to make, and forked readers copy them
page by page. So what is asked of all clips at once (their lengths, splits, identities) stands in arrays, and
a `Clip` is made of its line of the manifest when it is asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from talkgen.data.clip import SPLITS, Clip, from_json, keys_of
from talkgen.data.shards import WholeFile
from talkgen.errors import FileError

COLUMNS = np.dtype(
    [
        ("id", "<u8"),  # hash of the clip's id
        ("start", "<i8"),  # of its line in the manifest
        ("bytes", "<i4"),  # of its line
        ("frames", "<i4"),
        ("identity", "<i4"),  # identities are numbered as they first appear
        ("split", "u1"),  # place in SPLITS
        ("swapped", "?"),  # the clip repeats another one
    ]
)
_AT_ONCE = 4096  # lines that are parsed at once
_KEPT = 4096  # clips that a table keeps, so that those of small corpora are made once
_NEEDED, _KNOWN = keys_of(Clip)


class ClipTable(Sequence[Clip]):
    """Clips of a store, or some of them, in the order of the manifest.

    An index gives a `Clip`, made when it is asked for; a slice gives another table. `of_split`, `unswapped`
    and `where` choose without making any clip.

    Args:
        manifest: the lines.
        columns: COLUMNS of all clips of the store.
        rows: which of them, int `(n,)`; None: all.
    """

    def __init__(self, manifest: WholeFile, columns: np.ndarray, rows: np.ndarray | None = None) -> None:
        self._manifest = manifest
        self._columns = columns
        self._rows = rows
        self._made: dict[int, Clip] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}

    @property
    def frames(self) -> np.ndarray:
        """Lengths of the clips, int32 `(n,)`."""
        return self._column("frames")

    @property
    def rows(self) -> np.ndarray:
        """Places of the clips in the manifest, int `(n,)`."""
        return np.arange(len(self._columns)) if self._rows is None else self._rows

    def identities(self) -> list[str]:
        """Names of the identities, sorted."""
        firsts = np.unique(self._column("identity"), return_index=True)[1]
        return sorted({self[int(place)].identity for place in firsts})

    def of_split(self, split: str) -> ClipTable:
        """The clips of a split."""
        return self.where(self._column("split") == SPLITS.index(split))

    def unswapped(self) -> ClipTable:
        """The clips that show whom they are said to show."""
        return self.where(~self._column("swapped"))

    def __len__(self) -> int:
        return len(self._columns) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Clip: ...

    @overload
    def __getitem__(self, place: slice) -> ClipTable: ...

    def __getitem__(self, place: int | slice) -> Clip | ClipTable:
        if isinstance(place, slice):
            return ClipTable(self._manifest, self._columns, self.rows[place])
        if not -len(self) <= place < len(self):
            raise IndexError(f"clip {place} of {len(self)}")
        place %= len(self)
        return self._read(place if self._rows is None else int(self._rows[place]))

    def __iter__(self) -> Iterator[Clip]:
        for row in range(len(self._columns)) if self._rows is None else self._rows:
            yield self._read(int(row))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _read(self, row: int) -> Clip:
        clip = self._made.get(row)
        if clip is None:
            start, size = int(self._columns["start"][row]), int(self._columns["bytes"][row])
            clip = from_json(self._manifest.read(start, size).decode(), Clip)
            if len(self._made) == _KEPT:
                self._made.clear()
            self._made[row] = clip
        return clip

    def _column(self, name: str) -> np.ndarray:
        column = self._columns[name]
        return column if self._rows is None else column[self._rows]

    def where(self, chosen: np.ndarray) -> ClipTable:
        """The clips for which bool `(n,)` is True."""
        return ClipTable(self._manifest, self._columns, self.rows[chosen])


class JoinedClips(Sequence[Clip]):
    """Several sequences of clips as one."""

    def __init__(self, parts: Sequence[Sequence[Clip]]) -> None:
        self.parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, place: int) -> Clip: ...

    @overload
    def __getitem__(self, place: slice) -> list[Clip]: ...

    def __getitem__(self, place: int | slice) -> Clip | list[Clip]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"clip {place} of {len(self)}")
        place %= len(self)
        part = int(np.searchsorted(self._ends, place, side="right"))
        return self.parts[part][place - int(self._ends[part - 1] if part else 0)]


class Rows:
    """Where clips stand in the manifest, by their ids.

    Args:
        columns: of all clips of a store.
    """

    def __init__(self, columns: np.ndarray) -> None:
        self._order = np.argsort(columns["id"], kind="stable")
        self._hashes = columns["id"][self._order]
        self._last = ("", -1)  # a sample asks several times for one clip

    def __getitem__(self, name: str) -> int:
        if self._last[0] == name and self._last[1] >= 0:
            return self._last[1]
        place = int(np.searchsorted(self._hashes, wanted := hash_of(name)))
        if place == len(self._hashes) or self._hashes[place] != wanted:
            raise KeyError(name)
        self._last = name, int(self._order[place])
        return self._last[1]

    def repeated(self) -> int | None:
        """The second row of some id that two clips have; None where ids are unique."""
        again = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        return int(self._order[again[0] + 1]) if len(again) else None


def hash_of(name: str) -> np.uint64:
    """64 bits of a clip's id; among a million clips two are alike once in 37 million stores."""
    return np.uint64(
        int.from_bytes(
            hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
    )


def read_columns(manifest: memoryview | bytes, name: str | Path) -> np.ndarray:
    """COLUMNS of a manifest, line by line; `name` is what an error calls it.

    Raises:
        FileError: a line cannot be read (with its number), or two clips have one id.
    """
    numbers: dict[str, int] = {}
    parts = [np.zeros(0, COLUMNS)]
    lines = _lines(manifest)
    first = 1
    while block := list(islice(lines, _AT_ONCE)):
        parts.append(_columns_of(block, first, numbers, name))
        first += len(block)
    columns = np.concatenate(parts)
    if (row := Rows(columns).repeated()) is not None:
        start, size = int(columns["start"][row]), int(columns["bytes"][row])
        clip = from_json(str(memoryview(manifest)[start : start + size], "utf-8"), Clip)
        raise FileError(name, f"a second clip with id {clip.id!r}")
    return columns


def _columns_of(
    block: list[tuple[int, bytes]], first: int, numbers: dict[str, int], name: str | Path
) -> np.ndarray:
    """Columns of some lines, parsed as one list, which takes half the time; `first` is the number of the
    first line.
    """
    rows: list[tuple[Any, ...]] = []
    filled = [(start, line) for start, line in block if line.strip()]
    try:
        for (start, line), values in zip(
            filled, json.loads(b"[" + b",".join(line for _, line in filled) + b"]"), strict=True
        ):
            split, frames = SPLITS.index(values["split"]), values["frames"]
            if not _NEEDED <= values.keys() <= _KNOWN or not 0 < frames < 2**31 or values["fps"] <= 0:
                raise ValueError("a key, or its value")
            number = numbers.setdefault(values["identity"], len(numbers))
            digest = hash_of(values["id"])
            rows.append((digest, start, len(line), frames, number, split, values.get("swap_of") is not None))
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        for number, (_, line) in enumerate(block, start=first):  # which of them is it?
            try:
                if line.strip():
                    from_json(line.decode(), Clip)
            except (ValueError, TypeError) as error:
                raise FileError(name, f"line {number}: {error}") from error
        last = first + len(block) - 1
        raise FileError(name, f"lines {first} to {last}: a value of the wrong type ({fault})") from fault
    return np.array(rows, COLUMNS)


def _lines(manifest: memoryview | bytes) -> Iterator[tuple[int, bytes]]:
    """Place and content of each line, without its line feed."""
    start, left = 0, b""
    # not all at once: a copy of the manifest of a large corpus is a third of a gigabyte
    for begin in range(0, len(manifest), 2**20):
        *whole, left = (left + bytes(manifest[begin : begin + 2**20])).split(b"\n")
        for line in whole:
            yield start, line
            start += len(line) + 1
    if left:
        yield start, left


def to_npy(array: np.ndarray) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def from_npy(content: memoryview) -> np.ndarray:
    """The array of a .npy file, without a copy.

    Raises:
        ValueError: it is none.
    """
    header = io.BytesIO(bytes(content[:65536]))
    version = np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(header)
    if fortran or dtype.hasobject:
        raise ValueError("not a plain array")
    return np.frombuffer(content, dtype, int(np.prod(shape)), header.tell()).reshape(shape)


def frame_counts(clips: Sequence[Clip]) -> np.ndarray:
    """Lengths of any clips, int `(n,)`."""
    return clips.frames if isinstance(clips, ClipTable) else np.array([clip.frames for clip in clips], int)


def identity_names(clips: Sequence[Clip]) -> list[str]:
    """Names of the identities of any clips, sorted."""
    return clips.identities() if isinstance(clips, ClipTable) else sorted({clip.identity for clip in clips})


def chosen(clips: Sequence[Clip], wanted: np.ndarray) -> Sequence[Clip]:
    """Those of any clips where bool `(n,)` is True."""
    if isinstance(clips, ClipTable):
        return clips.where(wanted)
    return [clip for clip, keep in zip(clips, wanted, strict=True) if keep]
