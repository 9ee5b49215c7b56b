"""The prepared store as Lightning takes it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import lightning
import torch

from talkgen.data.clip import Clip
from talkgen.data.dataset import ClipWindows, MixedWindows
from talkgen.data.loader import WindowLoader
from talkgen.data.sampler import EpochSampler
from talkgen.data.shards import CACHE_BYTES
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings, to_model_range
from talkgen.errors import TalkgenError

log = logging.getLogger(__name__)


class TalkingFaceData(lightning.LightningDataModule):
    """Train, validation and test windows of one store. Batches: see docs/architecture.md.

    Training windows are shuffled and begin at another place each epoch; validation and test windows are
    always the same. Loaders can be resumed in the middle of an epoch.

    Args:
        root: folder or URL of a prepared store.
        window: what a sample holds; default `WindowSettings()`.
        batch_size: samples a process.
        workers: reading processes of each loader; 0 reads in the training process.
        seed: of all choices.
        val_batches: validation takes at most so many batches (evenly spread over its windows); None: all.
        max_bad_fraction: a run stops when a greater share of samples cannot be read.
        drop_last: leave out what does not fill the last batch of an epoch, rather than repeating samples.
        ram_megabytes: decoded clips are kept in memory up to this size, in each worker of each loader.
        cache: folder for blocks of a remote store.
        cache_gigabytes: its greatest size.
        also: further stores, whose training windows are mixed with those of `root` (pictures beside videos
            for a VQGAN, triplets beside videos for a face swap). Each gives one window for every
            `window.stride` frames of a clip, so that a stride of 25 counts a picture as a second of video.
            Pictures need `window.size`. Validation and test are of `root` alone.
        windows_per_clip: so many windows of one clip stand together in a training batch, as negatives of
            each other; divides `batch_size`. 1: the windows of a batch are drawn one by one.

    Attributes:
        store: the open store.
        identities: names of all identities of the store, sorted, then of the further ones (as
            "root:name"); `batch["identity"]` points into it.
    """

    def __init__(
        self,
        root: str,
        window: WindowSettings | None = None,
        batch_size: int = 8,
        workers: int = 2,
        seed: int = 0,
        val_batches: int | None = None,
        max_bad_fraction: float = 0.01,
        drop_last: bool = False,
        ram_megabytes: int = 0,
        cache: str | None = None,
        cache_gigabytes: float = CACHE_BYTES / 2**30,
        windows_per_clip: int = 1,
        also: Sequence[str] = (),
    ) -> None:
        if windows_per_clip < 1 or batch_size % windows_per_clip:
            raise TalkgenError(
                f"data.batch_size={batch_size} is no multiple of data.windows_per_clip={windows_per_clip}"
            )
        if also and (window is None or (window.size is None and window.pictures)):
            raise TalkgenError("stores of several sizes can only be mixed at one: give data.window.size")
        super().__init__()
        self.root = root
        self.also = tuple(also)
        self.window = window or WindowSettings()
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.val_batches = val_batches
        self.max_bad_fraction = max_bad_fraction
        self.drop_last = drop_last
        self.ram_megabytes = ram_megabytes
        self.cache = cache
        self.cache_gigabytes = cache_gigabytes
        self.windows_per_clip = windows_per_clip

    @cached_property
    def stores(self) -> list[Store]:
        """The store, then the further ones; opened when they are first asked for.

        Raises:
            FileError: there is no complete store at one of the roots.
        """
        size = int(self.cache_gigabytes * 2**30)
        return [Store.open(root, self.cache, size) for root in (self.root, *self.also)]

    @property
    def store(self) -> Store:
        """The store at `root`."""
        return self.stores[0]

    @property
    def identities(self) -> list[str]:
        """Names of all identities of the store, sorted; then of the further ones, as "root:name"."""
        further = zip(self.also, self.stores[1:], strict=True)
        return _names(self.store) + [f"{root}:{name}" for root, store in further for name in _names(store)]

    def clips(self, split: str) -> Sequence[Clip]:
        """Clips of a split, in the order of the manifest."""
        return self.store.clips.of_split(split)

    def setup(self, stage: str) -> None:
        """Open the store, so that a wrong path is an error at once."""
        log.info("%s: %d clips of %d identities", self.root, len(self.store.clips), len(self.identities))

    def train_dataloader(self) -> WindowLoader:
        """Shuffled windows of the split `train`."""
        return self._loader("train", self.drop_last)

    def val_dataloader(self) -> WindowLoader | list[WindowLoader]:
        """Windows of the split `val`, always the same; an empty list where the store has none."""
        return self._loader("val") if self.clips("val") else []

    def test_dataloader(self) -> WindowLoader:
        """Windows of the split `test`, always the same."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Pictures travel as uint8 and become float32 in [-1, 1] on the device."""
        return to_model_range(batch)

    def dataset(self, split: str, limit: int | None = None) -> ClipWindows:
        """The windows of a split, at most `limit`; those of `train` are jittered."""
        if split != "train" or not self.also:
            return self._windows(0, split, self.identities, limit)
        parts, before = [], 0
        for number, store in enumerate(self.stores):
            # a place in the list is what a batch says, so that only the names from here on matter
            parts.append(self._windows(number, split, [""] * before + _names(store), limit))
            before += len(_names(store))
        return MixedWindows(parts)

    def _windows(self, number: int, split: str, identities: Sequence[str], limit: int | None) -> ClipWindows:
        """The windows of a split of one of the stores."""
        return ClipWindows(
            self.stores[number],
            self.stores[number].clips.of_split(split),
            self.window,
            self.seed,
            identities,
            jitter=split == "train",
            limit=limit,
            ram_bytes=self.ram_megabytes * 2**20 // len(self.stores),
        )

    def _loader(self, split: str, drop_last: bool = False) -> WindowLoader:
        training = split == "train"
        limit = self.val_batches * self.batch_size if split == "val" and self.val_batches else None
        dataset = self.dataset(split, limit)
        trainer = self.trainer
        sampler = EpochSampler(
            len(dataset),
            self.batch_size,
            self.seed,
            shuffle=training,
            drop_last=drop_last,
            rank=trainer.global_rank if trainer else 0,
            world=trainer.world_size if trainer else 1,
            group=self.windows_per_clip if training else 1,
            clips=dataset.clip_numbers if training and self.windows_per_clip > 1 else None,
        )
        return WindowLoader(
            dataset,
            sampler,
            self.workers,
            self.max_bad_fraction,
            as_float=trainer is None,
            renumber=self._renumber if training else None,
            pin_memory=torch.cuda.is_available(),
        )

    def _renumber(self, difference: int) -> None:
        """Tell Lightning that an epoch goes on as if it had begun with the present number of processes.

        Lightning counts batches, and knows by their number when to validate and when an epoch ends. A
        checkpoint of 8 processes counts fewer of them for the same samples than 6 processes do.
        """
        if self.trainer is not None:
            progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
            for name in ("ready", "started", "processed", "completed"):
                setattr(progress, name, getattr(progress, name) + difference)


def _names(store: Store) -> list[str]:
    return store.clips.identities()
