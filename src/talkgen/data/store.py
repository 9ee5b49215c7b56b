"""The prepared store: plain tar shards with random access to any frame and any stretch of any array.

::

    store.json        format, fps, size, streams, shards with their sha256, settings it was prepared with
    clips.jsonl       the manifest, one `Clip` a line
    columns.npy       what is asked of all clips at once, taken from the manifest
    index.npy         (clips, streams): where each stream of each clip begins, its rows, its CRC-32
    shards/00000.tar  for each clip: frames.mjpeg, frames.index.npy, mel.npy, landmarks.npy, …

Frames are JPEGs; or, for a fast disk with much room, raw I420 pictures (`frames.yuv`), which take four
times the bytes and a tenth of the time at 320 px.

A shard is an ordinary uncompressed tar: `tar xf` gives JPEG streams (which `ffmpeg -f mjpeg` reads) and
`.npy` files, so that the data outlive this package. Why JPEG at quality 95 without chroma subsampling, and
not video or another container: docs/performance/loader.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import tarfile
import tokenize
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from talkgen.data.clip import Clip
from talkgen.data.clip_table import ClipTable, Rows, from_npy, read_columns, to_npy
from talkgen.data.files import temporary_name, write_atomically
from talkgen.data.manifest import write_manifest
from talkgen.data.shards import CACHE_BYTES, ShardSource, WholeFile, open_shards
from talkgen.errors import FileError

FORMAT = 1
SHARD_BYTES = 256 * 2**20
_TIME_LAST = (
    "mel",
)  # arrays whose last axis is time; on disk time is first in all, so that a window is one read
_ENTRY = np.dtype([("offset", "<i8"), ("bytes", "<i8"), ("rows", "<i4"), ("crc", "<u4")])
_END_OF_TAR = bytes(1024)
_FETCHES = 3  # of what does not agree with its CRC-32, from a remote store
_FRAME_SUFFIX = {"jpeg": ".mjpeg", "i420": ".yuv"}


@dataclass(frozen=True)
class Stream:
    """What one stream (frames, or an array) looks like in all clips of a store.

    Attributes:
        dtype: numpy name of the type, little-endian; "jpeg" or "i420" for frames.
        row: shape of one time step.
        time_last: the array is handed out with time as its last axis.
    """

    dtype: str
    row: tuple[int, ...] = ()
    time_last: bool = False


@dataclass
class Fragment:
    """One encoded clip: the tar members as bytes, and where each stream lies in them."""

    clip: Clip
    content: bytes
    streams: dict[str, Stream] = field(default_factory=dict)
    entries: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)  # offset, bytes, rows, crc


class ClipEncoder:
    """Encodes one clip, frame by frame, into the members of a tar.

    Args:
        clip: its line of the manifest; `frames` and `size` must agree with what is added.
        quality: JPEG quality, 1 to 100.
        codec: `jpeg`, or `i420` for raw pictures with halved colour, whose size must be even.
    """

    def __init__(self, clip: Clip, quality: int = 95, codec: str = "jpeg") -> None:
        if codec not in _FRAME_SUFFIX:
            raise ValueError(f"no codec {codec!r}; there are {', '.join(_FRAME_SUFFIX)}")
        if codec == "i420" and clip.size % 2:
            raise ValueError(f"i420 needs an even size, not {clip.size}")
        self.clip = clip
        self.codec = codec
        self._options = [
            cv2.IMWRITE_JPEG_QUALITY, quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ]  # fmt: skip
        self._pictures: list[bytes] = []

    def add_frame(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 RGB `(size, size, 3)`."""
        size = self.clip.size
        if frame.shape != (size, size, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"frame of {self.clip.id} is {frame.dtype} {frame.shape}, not uint8 {(size, size, 3)}"
            )
        if self.codec == "i420":
            self._pictures.append(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
            return
        done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), self._options)
        if not done:
            raise ValueError(f"frame {len(self._pictures)} of {self.clip.id} cannot be encoded")
        self._pictures.append(data.tobytes())

    def frames(self, start: int, stop: int) -> np.ndarray:
        """Frames that were appended, as a reader of the store will see them."""
        pictures = self._pictures[start:stop]
        out = np.empty((len(pictures), self.clip.size, self.clip.size, 3), np.uint8)
        for frame, data in zip(out, pictures, strict=True):
            _decode_into(frame, data, self.codec == "i420")
        return out

    def finish(self, arrays: Mapping[str, np.ndarray]) -> Fragment:
        """Add the arrays and close the clip.

        Raises:
            ValueError: the number of frames is not that of the clip.
        """
        if len(self._pictures) != self.clip.frames:
            raise ValueError(
                f"clip {self.clip.id} should have {self.clip.frames} frames, got {len(self._pictures)}"
            )
        buffer = io.BytesIO()
        fragment = Fragment(self.clip, b"")

        def add(name: str, suffix: str, header: bytes, body: bytes, rows: int, stream: Stream) -> None:
            member = tarfile.TarInfo(f"{self.clip.id}/{name}{suffix}")
            member.size = len(header) + len(body)
            buffer.write(member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
            buffer.write(header)
            fragment.entries[name] = (buffer.tell(), len(body), rows, zlib.crc32(body))
            fragment.streams[name] = stream
            buffer.write(body)
            buffer.write(bytes(-buffer.tell() % 512))

        suffix = _FRAME_SUFFIX[self.codec]
        add("frames", suffix, b"", b"".join(self._pictures), len(self._pictures), Stream(self.codec))
        table = np.array([(len(data), zlib.crc32(data)) for data in self._pictures], "<u4")
        for name, array in {"frames.index": table, **dict(sorted(arrays.items()))}.items():
            if array.ndim == 0:
                raise ValueError(f"array {name!r} of clip {self.clip.id} has no axis")
            time_last = name in _TIME_LAST
            rows = np.ascontiguousarray(np.moveaxis(array, -1, 0) if time_last else array)
            rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
            stream = Stream(rows.dtype.str, rows.shape[1:], time_last)
            add(name, ".npy", header.getvalue(), rows.tobytes(), len(rows), stream)
        fragment.content = buffer.getvalue()
        return fragment


def _decode_into(out: np.ndarray, data: bytes | memoryview, raw: bool) -> bool:
    """Decode a picture into uint8 RGB `(size, size, 3)`; False where it is none, or of another size."""
    content = np.frombuffer(data, np.uint8)
    if raw:
        cv2.cvtColor(content.reshape(len(out) * 3 // 2, len(out)), cv2.COLOR_YUV2RGB_I420, dst=out)
        return True
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    if image is None or image.shape != out.shape:
        return False
    out[:] = image
    return True


class StoreWriter:
    """Writes a store. Nothing can be read from it before `close`, which a `with` block calls when it ends
    well.

    An interrupted preparation runs the same calls again; a shard that it completed (its sha256 lies in the
    folder `work`, which the preparation makes and removes) is not written a second time.

    Args:
        root: folder of the store; made if absent.
        shard_bytes: a shard is closed when it has become this long.
        quality, codec: of the frames of `add`, see `ClipEncoder`.
        settings: recorded in store.json.
    """

    def __init__(
        self,
        root: str | Path,
        shard_bytes: int = SHARD_BYTES,
        quality: int = 95,
        settings: Mapping[str, Any] | None = None,
        codec: str = "jpeg",
    ) -> None:
        self.root = Path(root)
        self.quality = quality
        self.codec = codec
        self._shard_bytes = shard_bytes
        self._settings = dict(settings or {})
        self._clips: list[Clip] = []
        self._entries: list[dict[str, tuple[int, int, int, int]]] = []
        self._streams: dict[str, Stream] = {}
        self._shards: list[dict[str, Any]] = []
        self._length = 0  # bytes in the current shard
        self._pending: list[Callable[[], bytes]] = []  # contents of the current shard
        (self.root / "shards").mkdir(parents=True, exist_ok=True)

    def add(self, clip: Clip, frames: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Add a clip.

        Args:
            clip: its line of the manifest; `shard` is filled in here.
            frames: uint8 RGB `(frames, size, size, 3)`.
            arrays: named arrays, time first (mel: time last).
        """
        encoder = ClipEncoder(clip, self.quality, self.codec)
        for frame in frames:
            encoder.add_frame(frame)
        fragment = encoder.finish(arrays)
        self.add_fragment(fragment, len(fragment.content), lambda: fragment.content)

    def add_fragment(self, fragment: Fragment, length: int, content: Callable[[], bytes]) -> bool:
        """Add an encoded clip whose `length` bytes `content()` gives when its shard is written.

        Returns:
            Whether this closed a shard, so that the contents of all fragments so far are on disk.
        """
        if self._clips and (fragment.clip.size, fragment.clip.fps) != (
            self._clips[0].size,
            self._clips[0].fps,
        ):
            raise ValueError(f"clip {fragment.clip.id} differs in size or fps from the others of the store")
        for name, stream in fragment.streams.items():
            if self._streams.setdefault(name, stream) != stream:
                raise ValueError(
                    f"{name} of clip {fragment.clip.id} is {stream}, of others {self._streams[name]}"
                )
        self._entries.append(
            {name: (entry[0] + self._length, *entry[1:]) for name, entry in fragment.entries.items()}
        )
        self._clips.append(dataclasses.replace(fragment.clip, shard=self._shard_name()))
        self._pending.append(content)
        self._length += length
        if self._length >= self._shard_bytes:
            self._close_shard()
            return True
        return False

    def leave_out_orphans(self) -> list[Clip]:
        """Take the swapped clips whose target is not in the store off the manifest, and give them.

        Without its target, a swapped clip would pass for an ordinary one of whoever's face it shows. Its
        bytes stay in the shard.
        """
        names = {clip.id for clip in self._clips}
        orphans = [clip for clip in self._clips if clip.swap_of is not None and clip.swap_of not in names]
        if orphans:
            kept = [clip.swap_of is None or clip.swap_of in names for clip in self._clips]
            self._clips = [clip for clip, keep in zip(self._clips, kept, strict=True) if keep]
            self._entries = [entry for entry, keep in zip(self._entries, kept, strict=True) if keep]
        return orphans

    def close(self) -> None:
        """Write the last shard, the index and the manifest, and `store.json` as the very last file."""
        if self._pending:
            self._close_shard()
        self.leave_out_orphans()
        index = np.zeros((len(self._clips), len(self._streams)), _ENTRY)
        index["offset"] = -1
        for row, entries in enumerate(self._entries):
            for column, name in enumerate(self._streams):
                if name in entries:
                    index[row, column] = entries[name]
        write_manifest(self.root / "clips.jsonl", self._clips)
        manifest = WholeFile(self.root / "clips.jsonl").view
        columns = to_npy(read_columns(manifest, self.root / "clips.jsonl"))
        index_file = to_npy(index)
        write_atomically(self.root / "columns.npy", columns)
        write_atomically(self.root / "index.npy", index_file)
        description = {
            "format": FORMAT,
            "clips": len(self._clips),
            "frames": sum(clip.frames for clip in self._clips),
            "fps": self._clips[0].fps if self._clips else None,
            "size": self._clips[0].size if self._clips else None,
            "streams": {name: dataclasses.asdict(stream) for name, stream in self._streams.items()},
            "shards": self._shards,
            "index_sha256": hashlib.sha256(index_file).hexdigest(),
            "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
            "columns_sha256": hashlib.sha256(columns).hexdigest(),
            "settings": self._settings,
        }
        write_atomically(self.root / "store.json", (json.dumps(description, indent=1) + "\n").encode())

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()

    def _shard_name(self) -> str:
        return f"shards/{len(self._shards):05d}.tar"

    def _close_shard(self) -> None:
        file = self.root / self._shard_name()
        record = self.root / "work" / f"{file.name}.sha256"  # of a shard that an interrupted run completed
        if file.exists() and record.exists():
            digest = record.read_text()
        else:
            temporary = temporary_name(file)
            sha256 = hashlib.sha256()
            with temporary.open("wb") as handle:
                for content in (*self._pending, lambda: _END_OF_TAR):
                    piece = content()
                    sha256.update(piece)
                    handle.write(piece)
            digest = sha256.hexdigest()
            if record.parent.is_dir():
                write_atomically(record, digest.encode())
            temporary.replace(file)
        self._shards.append(
            {"file": self._shard_name(), "bytes": self._length + len(_END_OF_TAR), "sha256": digest}
        )
        self._length = 0
        self._pending = []


class Store:
    """A prepared store, opened for reading; made by `Store.open`.

    Reading is safe from forked and spawned processes. Every frame is checked against its CRC-32 as it is
    read; an array as a process first reads any of it, or all. What does not agree is fetched up to three
    times more from a remote store. Errors are `FileError`s that name the shard.

    Args:
        source: where the files are.
        description: the content of store.json.
        manifest, index: its files.
        columns: of all clips, `talkgen.data.clip_table.COLUMNS`.

    Attributes:
        clips: the manifest.
        fps, size: of all clips.
        description: the content of store.json.
    """

    def __init__(
        self,
        source: ShardSource,
        description: Mapping[str, Any],
        manifest: WholeFile,
        index: WholeFile,
        columns: np.ndarray,
    ) -> None:
        self._parts = source, description, manifest, index, columns
        self.clips = ClipTable(manifest, columns)
        self.description = description
        self.fps: float = description["fps"] or 25.0
        self.size: int = description["size"] or 0
        self.streams = {
            name: Stream(values["dtype"], tuple(values["row"]), values["time_last"])
            for name, values in description["streams"].items()
        }
        self._source = source
        self._index = from_npy(index.view)
        self._columns = {name: column for column, name in enumerate(self.streams)}
        self._rows = Rows(columns)
        self._sound = np.zeros(self._index.shape, bool)  # arrays that agreed with their CRC-32

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, self._parts

    @property
    def retries(self) -> int:
        """Reads that this process had to repeat; none of a local store."""
        return self._source.retries

    @classmethod
    def open(cls, root: str | Path, cache: str | Path | None = None, cache_bytes: int = CACHE_BYTES) -> Store:
        """Open the store in a folder or behind a URL.

        Args:
            root: local folder, or any URL that fsspec reads.
            cache: where blocks of a remote store are kept; default `$TALKGEN_CACHE` or
            `~/.cache/talkgen/store`. cache_bytes: greatest size of that cache.

        Raises:
            FileError: there is no complete store at `root`, or it is of another format.
        """
        if "://" not in str(root) and not (Path(root) / "store.json").is_file():
            raise FileError(root, _why_no_store(Path(root)))
        source = open_shards(root, cache, cache_bytes)
        try:
            description = json.loads(source.file("store.json"))
        except (RecursionError, ValueError) as error:
            raise FileError(source.name("store.json"), f"is damaged ({error}); copy it anew") from error
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            version = description.get("format") if isinstance(description, dict) else None
            raise FileError(
                source.name("store.json"),
                f"store of format {version}, this talkgen reads {FORMAT}; prepare it anew",
            )
        _refuse_damaged(description, source.name("store.json"))
        manifest = source.whole("clips.jsonl", description["manifest_sha256"])
        index = source.whole("index.npy", description["index_sha256"])
        try:
            if "columns_sha256" in description:
                columns = from_npy(source.whole("columns.npy", description["columns_sha256"]).view)
            else:  # of an earlier version
                columns = read_columns(manifest.view, source.name("clips.jsonl"))
            return cls(source, description, manifest, index, columns)
        except (SyntaxError, TypeError, ValueError, tokenize.TokenError) as error:
            raise FileError(
                source.name("index.npy"), f"or columns.npy is no array of a store ({error}); copy it anew"
            ) from error

    def __len__(self) -> int:
        return len(self.clips)

    def clip(self, name: str) -> Clip:
        """The clip with this id.

        Raises:
            KeyError: there is none.
        """
        return self.clips[self._rows[name]]

    def has(self, clip: Clip, name: str) -> bool:
        """Whether the clip has this array."""
        return name in self._columns and self._index[self._rows[clip.id], self._columns[name]]["offset"] >= 0

    def lengths(self, clips: Sequence[Clip], name: str) -> np.ndarray:
        """Time steps of an array of many clips, int `(n,)`; -1 where a clip has no such array."""
        rows = clips.rows if isinstance(clips, ClipTable) else [self._rows[clip.id] for clip in clips]
        if name not in self._columns:
            return np.full(len(rows), -1)
        entries = self._index[:, self._columns[name]][rows]
        return np.where(entries["offset"] >= 0, entries["rows"], -1)

    def length(self, clip: Clip, name: str) -> int:
        """Time steps of an array of the clip."""
        return int(self._entry(clip, name)["rows"])

    def frames(self, clip: Clip, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames `start` to `stop`, uint8 RGB `(n, size, size, 3)`."""
        return self.frames_at(clip, range(*slice(start, stop).indices(clip.frames)))

    def frames_at(self, clip: Clip, frames: Iterable[int]) -> np.ndarray:
        """The frames with these numbers, uint8 RGB `(n, size, size, 3)`.

        Raises:
            IndexError: the clip has no such frame.
            FileError: the shard is damaged.
        """
        wanted = list(frames)
        if wanted and not (min(wanted) >= 0 and max(wanted) < clip.frames):
            raise IndexError(
                f"clip {clip.id} has frames 0 to {clip.frames - 1}, wanted {min(wanted)} to {max(wanted)}"
            )
        entry = self._entry(clip, "frames")
        table = self.array(clip, "frames.index")
        ends = np.cumsum(table[:, 0], dtype=np.int64)
        out = np.empty((len(wanted), clip.size, clip.size, 3), np.uint8)
        raw = self.streams["frames"].dtype == "i420"
        for place, frame in enumerate(wanted):
            size = int(table[frame, 0])
            start = int(entry["offset"] + ends[frame]) - size
            data = self._checked(clip, f"frame {frame}", start, size, int(table[frame, 1]))
            if not _decode_into(out[place], data, raw):
                raise self._damaged(clip, f"frame {frame}")
        return out

    def array(self, clip: Clip, name: str, start: int | None = None, stop: int | None = None) -> np.ndarray:
        """Time steps `start` to `stop` of an array of the clip (all of it by default); a copy.

        Raises:
            KeyError: the clip has no such array.
            IndexError: it has no such steps.
            FileError: the shard is damaged.
        """
        entry, stream = self._entry(clip, name), self.streams[name]
        rows = int(entry["rows"])
        first, last = 0 if start is None else start, rows if stop is None else stop
        if not 0 <= first <= last <= rows:
            raise IndexError(f"{name} of clip {clip.id} has {rows} steps, wanted {first} to {last}")
        width = int(entry["bytes"]) // rows if rows else 0
        place = self._rows[clip.id], self._columns[name]
        if last - first == rows or not self._sound[place]:
            data = self._checked(clip, name, int(entry["offset"]), int(entry["bytes"]), int(entry["crc"]))
            data = data[first * width : last * width]
            self._sound[place] = True
        else:
            data = self._source.read(clip.shard, int(entry["offset"]) + first * width, (last - first) * width)
        shape = (last - first, *stream.row)
        if np.dtype(stream.dtype).itemsize * math.prod(shape) != len(data):
            raise FileError(
                self._source.name("store.json"),
                f"states {name} as {stream.dtype} {stream.row}, unlike what its shards hold; copy it anew",
            )
        array = np.frombuffer(data, stream.dtype).reshape(shape).copy()
        return np.moveaxis(array, 0, -1) if stream.time_last else array

    def verify(self) -> Iterator[tuple[str, str | None]]:
        """Read every byte: yields (name, None) for each sound shard and clip, (name, what is wrong) for
        others.
        """
        for shard in self.description["shards"]:
            try:
                sound = self._has_sha256(shard)
                if not sound and self._source.forget(shard["file"], 0, shard["bytes"]):
                    sound = self._has_sha256(shard)
                fault = None if sound else f"does not have the sha256 of store.json, {shard['sha256'][:12]}…"
            except FileError as error:
                fault = error.cause
            yield self._source.name(shard["file"]), fault
        for clip in self.clips:
            fault = None
            try:
                for start in range(0, clip.frames, 64):
                    self.frames(clip, start, min(start + 64, clip.frames))
                for name in self.streams:
                    if self.has(clip, name) and name != "frames":
                        self.array(clip, name)
            except FileError as error:
                fault = str(error)
            yield clip.id, fault

    def _has_sha256(self, shard: Mapping[str, Any]) -> bool:
        content = self._source.read(shard["file"], 0, shard["bytes"])
        return hashlib.sha256(content).hexdigest() == shard["sha256"]

    def _checked(self, clip: Clip, what: str, start: int, size: int, crc: int) -> memoryview:
        """Bytes of the clip's shard whose CRC-32 is known."""
        data = self._source.read(clip.shard, start, size)
        if zlib.crc32(data) == crc:
            return data
        for _ in range(_FETCHES):
            if not self._source.forget(clip.shard, start, size):
                break
            data = self._source.read(clip.shard, start, size)
            if zlib.crc32(data) == crc:
                return data
        raise self._damaged(clip, what)

    def _entry(self, clip: Clip, name: str) -> np.void:
        column = self._columns.get(name)
        if column is not None:
            entry = self._index[self._rows[clip.id], column]
            if entry["offset"] >= 0:
                return entry
        names = ", ".join(n for n in self.streams if not n.startswith("frames"))
        raise KeyError(f"clip {clip.id} has no array {name!r}; the store has {names}")

    def _damaged(self, clip: Clip, what: str) -> FileError:
        digest = next((s["sha256"] for s in self.description["shards"] if s["file"] == clip.shard), "?")
        return FileError(
            self._source.name(clip.shard),
            f"shard is damaged at {what} of clip {clip.id} (its sha256 should be {digest}); "
            "copy it anew or run `talkgen prepare --check` to see how much is affected",
        )


def _refuse_damaged(description: Mapping[str, Any], name: str) -> None:
    """Refuse a store.json in which something is missing or of another kind than `StoreWriter` writes.

    Raises:
        FileError: says what.
    """
    try:
        for key in ("manifest_sha256", "index_sha256", *({"columns_sha256"} & description.keys())):
            _need(isinstance(description[key], str), key)
        _need(isinstance(description["size"], int | None), "size")
        _need(isinstance(description["fps"], int | float | None), "fps")
        for shard in description["shards"]:
            for key, kind in (("file", str), ("bytes", int), ("sha256", str)):
                _need(isinstance(shard[key], kind), f"{key} of a shard")
        for stream, values in description["streams"].items():
            row = values["row"]
            _need(isinstance(row, list) and all(type(n) is int and n >= 0 for n in row), f"row of {stream}")
            _need(isinstance(values["time_last"], bool), f"time_last of {stream}")
            _need(isinstance(values["dtype"], str), f"dtype of {stream}")
            if values["dtype"] not in _FRAME_SUFFIX:
                dtype = np.dtype(values["dtype"])
                _need(dtype.itemsize > 0 and not dtype.hasobject, f"dtype of {stream}")
        _need({"frames", "frames.index"} <= description["streams"].keys(), "streams")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileError(name, f"is damaged ({error}); copy it anew") from error


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is not as it was written")


def _why_no_store(root: Path) -> str:
    if (root / "work").is_dir():
        return "its preparation has not finished; run the same `talkgen prepare` command again to complete it"
    if not root.is_dir():
        return "no such folder; `talkgen prepare corpus=… source=… out=…` makes a store"
    return "not a prepared store (no store.json); `talkgen prepare corpus=… source=… out=…` makes one"
