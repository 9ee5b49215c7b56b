"""Reading byte ranges of shards: from a local disk by memory map, from anywhere else through a bounded
cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from talkgen.data.files import write_atomically
from talkgen.errors import FileError, MissingPackage

log = logging.getLogger(__name__)

CACHE_BYTES = 20 * 2**30
_BLOCK = 2**20  # bytes fetched from a remote shard at once
_FOLDER = "blocks-"  # begins the name of each folder of a cache
_OPEN_MAPS = 128  # memory maps kept open by one process; each holds a file descriptor
_ATTEMPTS = 6  # a remote read is tried so often before it is an error
_PAUSE_SECONDS = 0.2  # after the first failure; twice as long after each further one
# A process looks at the size of the cache when it has added this share of the limit. So up to 64 processes
# that share a cache never bring it beyond the limit, although none knows of the others.
_LOOK_EVERY = 1 / 256
_FULL, _EMPTIED = 3 / 4, 5 / 8  # shares of the limit at which blocks are deleted, and down to which


class WholeFile:
    """All bytes of a file of a store: those of a local one stay on the disk, those of a remote one are held.

    Args:
        path: of a local file; each process opens it for itself.
        content: of a remote one.
    """

    def __init__(self, path: Path | None = None, content: bytes = b"") -> None:
        self._path = path
        self._content = content
        if path is not None:
            self._descriptor = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return WholeFile, (self._path, self._content)

    @cached_property
    def view(self) -> memoryview:
        """All of it. What is looked at of a local file is mapped into memory, with what lies around it."""
        if self._path is None or not os.fstat(self._descriptor).st_size:
            return memoryview(self._content)
        return memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))

    def read(self, start: int, size: int) -> bytes:
        """A part, of which nothing stays in memory."""
        if self._path is None:
            return self._content[start : start + size]
        return os.pread(self._descriptor, size, start)


class ShardSource(Protocol):
    """Where the files of a store are.

    Attributes:
        retries: reads that this process had to repeat.
    """

    retries: int

    def file(self, name: str) -> bytes:
        """All of a small file."""
        ...

    def whole(self, name: str, sha256: str | None = None) -> WholeFile:
        """All of a file of any size.

        Raises:
            FileError: it is absent, or does not have this sha256.
        """
        ...

    def forget(self, shard: str, start: int, size: int) -> bool:
        """Whether reading these bytes again may give others; what is kept of them is thrown away."""
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
        self.retries = 0
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "retries": 0, "_maps": OrderedDict()}

    def name(self, file: str) -> str:
        """Path of a file of the store."""
        return str(self.root / file)

    def file(self, name: str) -> bytes:
        """All of a small file."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise FileError(self.name(name), f"cannot be read ({error.strerror})") from error

    def whole(self, name: str, sha256: str | None = None) -> WholeFile:
        """A memory map, of which nothing has been read into memory by looking at its sha256."""
        try:
            if sha256 is not None:
                with (self.root / name).open("rb") as handle:
                    if hashlib.file_digest(handle, "sha256").hexdigest() != sha256:
                        raise FileError(self.name(name), _other_content(sha256))
            return WholeFile(self.root / name)
        except OSError as error:
            raise FileError(self.name(name), f"cannot be read ({error.strerror})") from error

    def forget(self, shard: str, start: int, size: int) -> bool:
        """Never: a disk gives the same bytes again."""
        return False

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
        # Asked anew each time: to read a map beyond the end of a file that was cut kills the process.
        length = mapped.size()
        if start + size > length:
            raise FileError(self.name(shard), f"shard is cut short: {length} bytes, wanted {start + size}")
        return memoryview(mapped)[start : start + size]


class RemoteShards:
    """Files behind any fsspec URL (`s3://`, `gs://`, `https://`, `memory://` …).

    Blocks of 1 MiB are fetched when they are first needed and kept in `cache`, each version of each store in
    a folder of its own; when all of them grow beyond three quarters of `cache_bytes`, the blocks that were
    not read for longest are deleted, whatever store they are of. Several processes may share a cache.

    A read that fails, or gives fewer bytes than there are, is tried up to six times within about 6 s, besides
    the time that the server takes; libraries that would try again by themselves are told not to, where they
    can be. What was repeated is counted in `retries`.

    Args:
        url: folder of the store.
        cache: local folder for blocks of any number of stores.
        cache_bytes: its greatest size.
    """

    def __init__(self, url: str, cache: str | Path, cache_bytes: int = CACHE_BYTES) -> None:
        self.url = url.rstrip("/")
        self.cache_bytes = cache_bytes
        self.retries = 0
        self._filesystem: Any = None
        self._owner = 0  # process that made the filesystem object; its threads do not survive a fork
        self._added = 0
        self._cannot_keep = False  # said once that the cache cannot be written
        self._description = description = self._read_description()
        self._lengths = _shard_lengths(description)
        # a store that was made anew under the same address must not be mixed with old blocks
        key = hashlib.sha256(self.url.encode() + description).hexdigest()[:16]
        self.cache = Path(cache) / f"{_FOLDER}{key}"
        self.cache.mkdir(parents=True, exist_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_filesystem": None, "_owner": 0}

    def name(self, file: str) -> str:
        """URL of a file of the store."""
        return f"{self.url}/{file}"

    def file(self, name: str) -> bytes:
        """All of a small file."""
        return self._description if name == "store.json" else self._fetch(name)

    def _read_description(self) -> bytes:
        """All of store.json. It has the checksums of everything else and none itself, so it is read until the
        same content comes twice.
        """
        before = None
        for _ in range(_ATTEMPTS):
            content = self._fetch("store.json", fault=_no_json)
            if content == before:
                return content
            before = content
        raise FileError(self.name("store.json"), "has other content each time it is read")

    def whole(self, name: str, sha256: str | None = None) -> WholeFile:
        """The content, held in memory."""

        def fault(content: bytes) -> str | None:
            sound = sha256 is None or hashlib.sha256(content).hexdigest() == sha256
            return None if sound else _other_content(sha256 or "")

        return WholeFile(content=self._fetch(name, fault=fault))

    def forget(self, shard: str, start: int, size: int) -> bool:
        """Delete the blocks: the network or the disk of the cache may have spoilt them."""
        for block in _blocks(start, size):
            self._block_file(shard, block).unlink(missing_ok=True)
        self.retries += 1
        return True

    def read(self, shard: str, start: int, size: int) -> memoryview:
        """Bytes of a shard, from the cache where they are there."""
        blocks = _blocks(start, size)
        content = b"".join(self._block(shard, block) for block in blocks)
        offset = start - blocks.start * _BLOCK
        if len(content) < offset + size:
            end = blocks.start * _BLOCK + len(content)
            raise FileError(self.name(shard), f"shard is cut short at byte {end}")
        return memoryview(content)[offset : offset + size]

    def _block_file(self, shard: str, block: int) -> Path:
        return self.cache / f"{shard.replace('/', '_')}.{block:06d}"

    def _block(self, shard: str, block: int) -> bytes:
        file, start = self._block_file(shard, block), block * _BLOCK
        length = self._lengths.get(shard)
        expected = None if length is None else max(0, min(_BLOCK, length - start))
        with contextlib.suppress(FileNotFoundError):  # not kept, or another process deleted it
            content = file.read_bytes()
            if expected is None or len(content) == expected:
                os.utime(file)
                return content

        def fault(content: bytes) -> str | None:
            if expected is None or len(content) >= expected:
                return None
            return f"cut short at byte {start + len(content)}"

        content = self._fetch(shard, start, start + _BLOCK, fault)
        if len(content) > _BLOCK:
            raise FileError(
                self.name(shard), "its server gives whole files only, not parts of them; copy the store"
            )
        self._keep(file, content)
        return content

    def _keep(self, file: Path, content: bytes) -> None:
        """Put a block into the cache; where that cannot be, it is fetched again when it is needed again."""
        try:
            write_atomically(file, content)
            self._added += len(content)
            if self._added > self.cache_bytes * _LOOK_EVERY:
                self._added = 0
                self._evict()
        except OSError as error:
            if not self._cannot_keep:
                log.warning("%s cannot be written (%s); reading goes on without it", self.cache, error)
            self._cannot_keep = True

    def _evict(self) -> None:
        """Delete the blocks that were read longest ago, where the cache is three quarters full.

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
        if total <= self.cache_bytes * _FULL:
            return
        for _, size, file in sorted(blocks):
            file.unlink(missing_ok=True)
            total -= size
            if total <= self.cache_bytes * _EMPTIED:
                return

    def _fetch(
        self,
        name: str,
        start: int | None = None,
        stop: int | None = None,
        fault: Callable[[bytes], str | None] = lambda content: None,
    ) -> bytes:
        """Bytes of a file; `fault` says what is wrong with them, if anything."""
        cause: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                self.retries += 1
                time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                filesystem, root = self._open()
                content: bytes = filesystem.cat_file(f"{root}/{name}", start=start, end=stop)
            except FileNotFoundError as error:
                raise FileError(self.name(name), "no such file") from error
            except PermissionError as error:
                raise FileError(self.name(name), f"may not be read ({error})") from error
            except MissingPackage:
                raise
            except Exception as error:  # every library has its own names for what networks do
                cause = error
                continue
            if (wrong := fault(content)) is None:
                return content
            cause = OSError(wrong)
        raise FileError(self.name(name), f"cannot be read in {_ATTEMPTS} attempts ({cause})") from cause

    def _open(self) -> tuple[Any, str]:
        import fsspec

        if self._filesystem is None or self._owner != os.getpid():
            try:
                self._filesystem, self._root = fsspec.core.url_to_fs(
                    self.url, skip_instance_cache=True, **_no_retries(self.url)
                )
            except ImportError as error:
                raise MissingPackage(f"{self.url}: {error}; `pip install 'talkgen[cloud]'`") from error
            self._owner = os.getpid()
            if isinstance(getattr(self._filesystem, "retries", None), int):
                self._filesystem.retries = 1  # tries; counted here, not there
        return self._filesystem, self._root


def _blocks(start: int, size: int) -> range:
    """Blocks of a shard in which these bytes lie."""
    return range(start // _BLOCK, (start + max(size, 1) - 1) // _BLOCK + 1)


def _no_retries(url: str) -> dict[str, Any]:
    """What keeps a library's own client from trying again, beside what the user has configured."""
    import fsspec

    protocol = url.split("://")[0]
    if protocol not in ("s3", "s3a"):
        return {}
    own = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    return {"config_kwargs": {**own, "retries": {"total_max_attempts": 1}}}


def _shard_lengths(description: bytes) -> dict[str, int]:
    """Bytes of each shard, as store.json has them; none where it is damaged, which `Store.open` says."""
    try:
        return {shard["file"]: shard["bytes"] for shard in json.loads(description)["shards"]}
    except (ValueError, TypeError, KeyError):
        return {}


def _no_json(content: bytes) -> str | None:
    """What is wrong with store.json, if anything."""
    try:
        json.loads(content)
    except ValueError as error:
        return f"damaged: {error}"
    return None


def _other_content(sha256: str) -> str:
    return f"does not have the sha256 of store.json, {sha256[:12]}…"


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
