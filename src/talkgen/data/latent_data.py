"""The prepared store as codes of a frozen VQGAN: what SwapTalk's stages after the first are trained on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.dataset import ClipWindows
from talkgen.data.latents import IdentityEncoder, LatentCache, LatentEncoder, latent_key, latents_folder
from talkgen.data.shards import CACHE_BYTES
from talkgen.data.store import Store
from talkgen.data.windows import WindowPlan, WindowSettings
from talkgen.errors import TalkgenError

log = logging.getLogger(__name__)


class LatentWindows(ClipWindows):
    """`ClipWindows` whose samples have codes in place of pictures.

    `codes` int64 `t h w` stands for `video`, `reference_codes` int64 `r h w` for `reference`; everything
    else is as there.

    Args:
        store: where the clips are.
        clips: which of them.
        latents: their codes.
        window: what a sample holds; `size` None takes the size of the pictures that codes decode to.
        seed, identities, jitter, limit: see `ClipWindows`.
    """

    def __init__(
        self,
        store: Store,
        clips: Sequence[Clip],
        latents: LatentCache,
        window: WindowSettings,
        seed: int = 0,
        identities: Sequence[str] | None = None,
        jitter: bool = True,
        limit: int | None = None,
    ) -> None:
        if "codes" in window.arrays:
            raise TalkgenError("batches of latents have codes in any case; leave them out of window.arrays")
        window = dataclasses.replace(window, pictures=False, size=window.size or latents.size)
        super().__init__(store, clips, window, seed, identities, jitter, limit)
        self.latents = latents

    def read(self, clip: Clip, plan: WindowPlan) -> dict[str, Any]:
        """Read what a plan says."""
        sample = super().read(clip, plan)
        codes = self.latents.codes(clip.id, plan.start, plan.start + self.window.frames)
        sample["codes"] = codes.astype(np.int64)
        if plan.references:
            sample["reference_codes"] = self.latents.codes_at(clip.id, plan.references).astype(np.int64)
        return sample


class LatentData(TalkingFaceData):
    """Train, validation and test windows of one store, as codes. Batches: see docs/architecture.md.

    What is missing of the codes is computed in `prepare_data`, by one process a machine. Order, resuming
    and distributed training are those of `TalkingFaceData`.

    Args:
        root: folder or URL of a prepared store.
        encode: opens the VQGAN; a partial of `talkgen.inference.vqgan.load_frame_codes`.
        window: what a sample holds; mirroring is refused. `size` is that of the pictures to whose pixels
            landmarks and warps belong; None: of the pictures that the VQGAN was trained on.
        identify: opens a recogniser for the directions of the clips; None: those that are there.
        latents_folder: where the codes lie; None: `latents/<key>` in the VQGAN's run.
        encode_batch: frames that are encoded at once; None: what suits the encoder.
        batch_size, workers, seed, val_batches, max_bad_fraction, drop_last, cache, cache_gigabytes,
        windows_per_clip, also: see `TalkingFaceData`.
    """

    def __init__(
        self,
        root: str,
        encode: Callable[[], LatentEncoder],
        window: WindowSettings | None = None,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        val_batches: int | None = None,
        max_bad_fraction: float = 0.01,
        drop_last: bool = False,
        identify: Callable[[], IdentityEncoder] | None = None,
        latents_folder: str | None = None,
        encode_batch: int | None = None,
        cache: str | None = None,
        cache_gigabytes: float = CACHE_BYTES / 2**30,
        windows_per_clip: int = 1,
        also: Sequence[str] = (),
    ) -> None:
        if also and latents_folder is not None:
            raise TalkgenError("one latents_folder cannot hold the codes of several stores; leave it out")
        window = dataclasses.replace(window or WindowSettings(), pictures=False)
        super().__init__(
            root, window, batch_size, workers, seed, val_batches, max_bad_fraction, drop_last,
            cache=cache, cache_gigabytes=cache_gigabytes, windows_per_clip=windows_per_clip, also=also,
        )  # fmt: skip
        self.encode = encode
        self.identify = identify
        self.latents_folder = latents_folder
        self.encode_batch = encode_batch
        self._caches: list[LatentCache] = []  # of each store

    @property
    def latents(self) -> LatentCache:
        """The codes of the store at `root`; opened when they are first asked for.

        Raises:
            FileError: they are not complete; `prepare_data` makes them.
        """
        return self._opened()[0]

    def _opened(self) -> list[LatentCache]:
        if not self._caches:
            encode = self.encode()
            caches = [LatentCache.open(self._folder(store, encode)) for store in self.stores]
            for store, cache in zip(self.stores, caches, strict=True):
                cache.need(latent_key(store, encode))
            self._caches = caches
        return self._caches

    def prepare_data(self) -> None:
        """Encode what has not been encoded yet, with a bar; nothing where all is done."""
        encode = self.encode()
        identify = None if self.identify is None else self.identify()
        self._caches = [
            LatentCache.build(self._folder(store, encode), store, encode, identify, self.encode_batch)
            for store in self.stores
        ]

    def setup(self, stage: str) -> None:
        """Open store and codes, so that a wrong path is an error at once."""
        super().setup(stage)
        log.info("codes: %s, %d×%d a frame", self.latents.folder, *self.latents.shape)

    def state_dict(self) -> dict[str, Any]:
        """Which codes a run was trained on."""
        return {"latents": [cache.key for cache in self._opened()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with other codes, which would mean something else to a network.

        Raises:
            TalkgenError: the VQGAN or the corpus has changed since the checkpoint.
        """
        if state_dict["latents"] != self.state_dict()["latents"]:
            raise TalkgenError(
                f"the codes in {self.latents.folder} are not those that the run was trained on: its VQGAN or "
                "its corpus has changed since. Delete the run, or give the new one another name (name=…)"
            )

    def _windows(self, number: int, split: str, identities: Sequence[str], limit: int | None) -> ClipWindows:
        store = self.stores[number]
        return LatentWindows(
            store,
            store.clips.of_split(split),
            self._opened()[number],
            self.window,
            self.seed,
            identities,
            jitter=split == "train",
            limit=limit,
        )

    def _folder(self, store: Store, encode: LatentEncoder) -> Path:
        return latents_folder(store, encode) if self.latents_folder is None else Path(self.latents_folder)
