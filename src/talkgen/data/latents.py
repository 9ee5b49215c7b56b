"""Codes of all clips of a store by one VQGAN, computed once.

The VQGAN is frozen after SwapTalk's first stage, so that the later stages can read codes instead of decoding
pictures and encoding them again in every step: 800 bytes a frame at 320 px and f16 instead of 307,200, and
none of the encoder's 217 GFLOP.

::

    latents.json     key, size, clips in order with their lengths; written last
    codes.npy        uint16 (frames of all clips, h, w)
    identities.npz   float32 (clips, 512) and the sha256 of the recogniser, where one was given
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from talkgen.data.clip import Clip
from talkgen.data.clip_rows import FORMAT, ClipRows
from talkgen.data.files import only_one, write_atomically
from talkgen.data.store import Store
from talkgen.errors import FileError

IDENTITY_FRAMES = 8  # of a clip, spread evenly, whose directions are averaged
_SAVE_SECONDS = 5.0  # a build that is killed loses no more than this


class LatentEncoder(Protocol):
    """Gives codes of frames by a frozen network. `talkgen.inference.vqgan.FrameCodes` is one."""

    @property
    def key(self) -> str:
        """What codes depend on beside the frames: the sha256 of the checkpoint, and the precision."""
        ...

    @property
    def size(self) -> int:
        """Pixels of the pictures that the network takes."""
        ...

    @property
    def folder(self) -> Path:
        """Of the network's run; caches lie in it."""
        ...

    @property
    def batch_size(self) -> int:
        """Frames that are best encoded at once."""
        ...

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """A batch of crops, uint8 `(n, s, s, 3)`, RGB, any size → uint16 `(n, h, w)`."""
        ...


class IdentityEncoder(Protocol):
    """Gives identity directions of frames by a recogniser. `talkgen.inference.identity` makes one."""

    @property
    def sha256(self) -> str:
        """Of the recogniser's file."""
        ...

    def __call__(self, frames: np.ndarray, identity_warp: np.ndarray) -> np.ndarray:
        """Crops, uint8 `(n, s, s, 3)`, and their matrices `(n, 2, 3)` → float32 `(n, dim)` of length 1."""
        ...


def latent_key(store: Store, encode: LatentEncoder) -> str:
    """Name of the codes of a store by a network: another checkpoint, precision or content, another name."""
    shards = [shard["sha256"] for shard in store.description["shards"]]
    parts = [encode.key, str(encode.size), store.description["manifest_sha256"], *shards]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def latents_folder(store: Store, encode: LatentEncoder) -> Path:
    """Where the codes of a store by a network lie: `<run>/latents/<key>`."""
    return encode.folder / "latents" / latent_key(store, encode)


class LatentCache(ClipRows):
    """The codes of every clip of a store, and the direction of who is seen in it.

        latents = LatentCache.build(latents_folder(store, encode), store, encode)
        latents.codes("id000_00_en", 10, 15)   # uint16 (5, h, w)

    ``codes`` and ``codes_at`` give rows, uint16 `(n, h, w)`, one a frame.

    Attributes:
        size: pixels of the pictures that codes decode to.
        shape: (h, w) of a frame's codes.
    """

    description_file = "latents.json"
    array_file = "codes.npy"
    unit = "frames"
    missing = "holds no complete latents; training a stage that reads them makes them"
    foreign = "holds latents of another VQGAN or another corpus; delete it, or name another"
    codes = ClipRows.rows
    codes_at = ClipRows.rows_at

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        super().__init__(folder, description)
        self.size: int = description["size"]
        self.shape: tuple[int, int] = self._rows.shape[1:]
        self._identities = _read_identities(folder)

    @classmethod
    def build(
        cls,
        folder: str | Path,
        store: Store,
        encode: LatentEncoder,
        identify: IdentityEncoder | None = None,
        batch_size: int | None = None,
        readers: int | None = None,
        progress: bool = True,
    ) -> LatentCache:
        """Make what is missing, and open it. A build that was killed goes on where it was.

        One process builds; others that ask for the same folder meanwhile wait for it.

        Args:
            folder: where, as a rule `latents_folder(store, encode)`.
            store: the clips.
            encode: frames → codes.
            identify: frames → identity directions; None computes none, and keeps those that are there.
            batch_size: frames that are encoded at once; None: what suits the encoder.
            readers: threads that decode pictures meanwhile; None: one a core, at most 8.
            progress: show a bar.

        Raises:
            FileError: a shard is damaged, or the folder holds codes of something else.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        readers = readers or min(8, os.cpu_count() or 1)
        key = latent_key(store, encode)
        with only_one(folder):
            if not (folder / "latents.json").is_file():
                _write_codes(folder, key, store, encode, batch_size or encode.batch_size, readers, progress)
            cache = cls.open(folder)
            cache.need(key)
            if identify is not None and _recogniser(folder) != identify.sha256:
                _write_identities(folder, store, identify, progress)
                cache = cls.open(folder)
        return cache

    @property
    def has_identities(self) -> bool:
        """Whether a recogniser looked at the clips."""
        return self._identities is not None

    def identity(self, clip_id: str) -> np.ndarray:
        """Direction of who is seen in a clip, float32 `(dim,)` of length 1.

        Raises:
            KeyError: there is no such clip.
            FileError: no recogniser looked at the clips.
        """
        if self._identities is None:
            raise FileError(self.folder, "holds no identities; build it with `identify`")
        direction: np.ndarray = self._identities[self._place[clip_id]]
        return direction


# Building ---------------------------------------------------------------------------------------------------


def _write_codes(
    folder: Path,
    key: str,
    store: Store,
    encode: LatentEncoder,
    batch_size: int,
    readers: int,
    progress: bool,
) -> None:
    """Encode clip after clip into one array; `latents.json` last."""
    partial, journal = folder / "codes.partial.npy", folder / "progress.json"
    total = sum(clip.frames for clip in store.clips)
    done = _frames_done(journal, key) if partial.is_file() else 0
    out = np.lib.format.open_memmap(partial, "r+") if done else None
    saved = time.monotonic()
    name = store.clips[0].corpus if store.clips else "?"
    with tqdm(total=total, initial=done, unit="frame", desc=f"encode {name}", disable=not progress) as bar:
        for frames in _batches(store, done, batch_size, readers):
            codes = encode(frames)
            if out is None:
                out = _new_array(partial, (total, *codes.shape[1:]))
            out[done : done + len(codes)] = codes
            done += len(codes)
            bar.update(len(codes))
            if time.monotonic() - saved > _SAVE_SECONDS:
                out.flush()
                write_atomically(journal, json.dumps({"key": key, "frames": done}).encode())
                saved = time.monotonic()
    if out is None:
        raise FileError(folder, "the store has no clips to encode")
    out.flush()
    partial.replace(folder / "codes.npy")
    description = {
        "format": FORMAT,
        "key": key,
        "size": encode.size,
        "vqgan": encode.key,
        "manifest": store.description["manifest_sha256"],
        "clips": {clip.id: clip.frames for clip in store.clips},
    }
    write_atomically(folder / "latents.json", json.dumps(description, ensure_ascii=False).encode())
    journal.unlink(missing_ok=True)


def _frames_done(journal: Path, key: str) -> int:
    """Frames that an earlier build of the same codes is known to have written."""
    try:
        record = json.loads(journal.read_text(encoding="utf-8"))
        return int(record["frames"]) if record["key"] == key else 0
    except (FileNotFoundError, ValueError, KeyError):
        return 0


def _new_array(file: Path, shape: tuple[int, ...]) -> np.memmap:
    out = np.lib.format.open_memmap(file, "w+", np.uint16, shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and not a signal later
        with file.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return out


def _batches(store: Store, first: int, size: int, readers: int) -> Iterator[np.ndarray]:
    """Frames of all clips in order from number `first` on, `size` at a time across the borders of clips,
    decoded ahead by threads."""
    ends = np.cumsum([clip.frames for clip in store.clips])
    local = threading.local()  # memory maps of a store are not for several threads

    def read(start: int) -> np.ndarray:
        if not hasattr(local, "store"):
            local.store = copy.deepcopy(store)
        stop, parts = min(start + size, int(ends[-1])), []
        while start < stop:
            number = int(np.searchsorted(ends, start, side="right"))
            clip = store.clips[number]
            begin = start - int(ends[number] - clip.frames)
            end = min(clip.frames, begin + stop - start)
            parts.append(local.store.frames(clip, begin, end))
            start += end - begin
        return np.concatenate(parts)

    starts = iter(range(first, int(ends[-1]) if len(ends) else 0, size))
    with ThreadPoolExecutor(readers) as pool:
        ahead: list[Future[np.ndarray]] = [pool.submit(read, start) for start in islice(starts, 2 * readers)]
        while ahead:
            frames = ahead.pop(0).result()
            if (start := next(starts, None)) is not None:
                ahead.append(pool.submit(read, start))
            yield frames


def _write_identities(folder: Path, store: Store, identify: IdentityEncoder, progress: bool) -> None:
    directions = [
        _direction(store, clip, identify)
        for clip in tqdm(store.clips, unit="clip", desc="identities", disable=not progress)
    ]
    buffer = io.BytesIO()
    np.savez(buffer, directions=np.stack(directions).astype(np.float32), recogniser=np.array(identify.sha256))
    write_atomically(folder / "identities.npz", buffer.getvalue())


def _direction(store: Store, clip: Clip, identify: IdentityEncoder) -> np.ndarray:
    """Mean direction of some frames of a clip, of length 1."""
    numbers = np.linspace(0, clip.frames - 1, min(IDENTITY_FRAMES, clip.frames)).round().astype(int)
    warps = store.array(clip, "identity_warp")[numbers]
    mean = identify(store.frames_at(clip, numbers.tolist()), warps).mean(axis=0)
    direction: np.ndarray = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return direction


def _recogniser(folder: Path) -> str | None:
    file = folder / "identities.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as content:
        return str(content["recogniser"])


def _read_identities(folder: Path) -> np.ndarray | None:
    file = folder / "identities.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as content:
        directions: np.ndarray = content["directions"]
    return directions
