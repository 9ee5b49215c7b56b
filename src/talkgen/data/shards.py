"""Reading byte ranges of shards: from a local disk by memory map, from anywhere else through a bounded
cache.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

from talkgen.data.files import write_atomically
from talkgen.errors import FileError, MissingPackage

CACHE_BYTES = 20 * 2**30
_BLOCK = 2**20  # bytes fetched from a remote shard at once
_FOLDER = "blocks-"  # begins the name of each folder of a cache
_OPEN_MAPS = 128  # memory maps kept open by one process; each holds a file descriptor
_ATTEMPTS = 3  # a remote read is tried so often before it is an error


class ShardSource(Protocol):
    """Where the files of a store are."""

    def file(self, name: str) -> bytes:
        """All of a small file (manifest, index)."""
        ...

    def read(self, shard: str, start: int, size: int) -> memoryview:
        """Bytes `start` to `start + size` of a shard.

        Raises:
            FileError: the shard is absent or too short.
        """
        ...

    def name(self, file: str) -> str:
        """How an error calls a file."""
        ...


class LocalShards:
    """Files in a folder. Memory maps are opened by each process for itself, so forked and spawned workers
    are safe.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_maps": OrderedDict()}

    def name(self, file: str) -> str:
        """Path of a file of the store."""
        return str(self.root / file)

    def file(self, name: str) -> bytes:
        """All of a small file."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise FileError(self.name(name), f"cannot be read ({error.strerror})") from error

    def read(self, shard: str, start: int, size: int) -> memoryview:
        """A view into the memory map of the shard, without a copy."""
        mapped = self._maps.get(shard)
        if mapped is None:
            try:
                with (self.root / shard).open("rb") as handle:
                    mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: an empty file
                raise FileError(self.name(shard), f"shard cannot be opened ({error})") from error
            self._maps[shard] = mapped
            if len(self._maps) > _OPEN_MAPS:
                self._maps.popitem(last=False)  # closes when the last view of it is gone
        else:
            self._maps.move_to_end(shard)
        if start + size > len(mapped):
            raise FileError(
                self.name(shard), f"shard is cut short: {len(mapped)} bytes, wanted {start + size}"
            )
        return memoryview(mapped)[start : start + size]


class RemoteShards:
    """Files behind any fsspec URL (`s3://`, `gs://`, `https://`, `memory://` …).

    Blocks of 1 MiB are fetched when they are first needed and kept in `cache`, each version of each store in
    a folder of its own; when all of them grow beyond `cache_bytes`, the blocks that were not read for longest
    are deleted, whatever store they are of. Several processes may share a cache.

    Args:
        url: folder of the store.
        cache: local folder for blocks of any number of stores.
        cache_bytes: its greatest size.
    """

    def __init__(self, url: str, cache: str | Path, cache_bytes: int = CACHE_BYTES) -> None:
        self.url = url.rstrip("/")
        self.cache_bytes = cache_bytes
        self._filesystem: Any = None
        self._owner = 0  # process that made the filesystem object; its threads do not survive a fork
        self._added = 0
        # a store that was made anew under the same address must not be mixed with old blocks
        key = hashlib.sha256(self.url.encode() + self.file("store.json")).hexdigest()[:16]
        self.cache = Path(cache) / f"{_FOLDER}{key}"
        self.cache.mkdir(parents=True, exist_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_filesystem": None, "_owner": 0}

    def name(self, file: str) -> str:
        """URL of a file of the store."""
        return f"{self.url}/{file}"

    def file(self, name: str) -> bytes:
        """All of a small file."""
        return self._fetch(name, None, None)

    def read(self, shard: str, start: int, size: int) -> memoryview:
        """Bytes of a shard, from the cache where they are there."""
        first, last = start // _BLOCK, (start + max(size, 1) - 1) // _BLOCK
        content = b"".join(self._block(shard, block) for block in range(first, last + 1))
        offset = start - first * _BLOCK
        if len(content) < offset + size:
            raise FileError(self.name(shard), f"shard is cut short at byte {first * _BLOCK + len(content)}")
        return memoryview(content)[offset : offset + size]

    def _block(self, shard: str, block: int) -> bytes:
        file = self.cache / f"{shard.replace('/', '_')}.{block:06d}"
        try:
            content = file.read_bytes()
            os.utime(file)
            return content
        except FileNotFoundError:
            pass
        content = self._fetch(shard, block * _BLOCK, (block + 1) * _BLOCK)
        if len(content) > _BLOCK:
            raise FileError(
                self.name(shard), "its server gives whole files only, not parts of them; copy the store"
            )
        write_atomically(file, content)
        self._added += len(content)
        if self._added > self.cache_bytes // 16:
            self._added = 0
            self._evict()
        return content

    def _evict(self) -> None:
        """Delete the blocks that were read longest ago until the cache is an eighth below its limit.

        Those of stores that are gone or were made anew are never read again, so they go first. Only folders
        of this class are looked into: the cache may lie in a folder where other files are.
        """
        blocks = []
        for file in self.cache.parent.glob(f"{_FOLDER}*/*"):
            try:
                status = file.stat()
            except FileNotFoundError:  # another process deleted it
                continue
            blocks.append((status.st_mtime_ns, status.st_size, file))
        total = sum(size for _, size, _ in blocks)
        if total <= self.cache_bytes * 15 // 16:
            return
        for _, size, file in sorted(blocks):
            file.unlink(missing_ok=True)
            total -= size
            if total <= self.cache_bytes * 7 // 8:
                return

    def _fetch(self, name: str, start: int | None, stop: int | None) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                filesystem, root = self._open()
                return filesystem.cat_file(f"{root}/{name}", start=start, end=stop)
            except FileNotFoundError as error:
                raise FileError(self.name(name), "no such file") from error
            except OSError as error:  # what a network does now and then
                if attempt + 1 == _ATTEMPTS:
                    raise FileError(
                        self.name(name), f"cannot be read after {_ATTEMPTS} attempts ({error})"
                    ) from error
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def _open(self) -> tuple[Any, str]:
        import fsspec

        if self._filesystem is None or self._owner != os.getpid():
            try:
                self._filesystem, self._root = fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
            except ImportError as error:
                raise MissingPackage(f"{self.url}: {error}; `pip install 'talkgen[cloud]'`") from error
            self._owner = os.getpid()
        return self._filesystem, self._root


def open_shards(
    root: str | Path, cache: str | Path | None = None, cache_bytes: int = CACHE_BYTES
) -> ShardSource:
    """The right source for a folder or a URL.

    `cache` is `$TALKGEN_CACHE` or `~/.cache/talkgen/store` unless given; only remote stores use it.
    """
    text = str(root)
    if text.startswith("file://"):
        return LocalShards(text.removeprefix("file://"))
    if "://" not in text:
        return LocalShards(text)
    if cache is None:
        cache = os.environ.get("TALKGEN_CACHE") or Path.home() / ".cache" / "talkgen" / "store"
    return RemoteShards(text, cache, cache_bytes)
