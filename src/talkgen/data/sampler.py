"""Which sample comes when, on which process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np


class EpochSampler:
    """The order of an epoch: a permutation that depends on (seed, epoch) alone, cut into batches for every
    process.

    A *global batch* is `world * batch_size` consecutive samples of the permutation; process `rank` takes the
    `rank`-th part of each. So all processes have the same number of batches, together they see every
    sample exactly once, and the order of samples does not depend on how many processes share a global
    batch: an epoch that 8 processes began can be ended by 6. What is left at the end is filled up from the
    beginning of the permutation when training (each epoch repeats fewer than a global batch of samples), or
    left out with `drop_last`. Without `shuffle` (evaluation) the last batch may be smaller, and samples are
    repeated only where processes would otherwise differ in number.

    With `group` > 1 that many windows of one clip stand together in a training batch, as negatives of each
    other. What is permuted then are these groups; which windows are in one changes with the epoch. A clip
    whose windows do not fill its last group repeats some in it.

    Args:
        length: samples of an epoch.
        batch_size: samples of a batch on one process.
        seed: of the permutations.
        shuffle: permute; False: samples in their order, the same every epoch.
        drop_last: leave out what does not fill a global batch.
        rank: of this process.
        world: number of processes.
        group: windows of one clip that stand together; divides `batch_size`. 1: windows are on their own.
        clips: int `(length,)`, the number of the clip that each sample is from; needed for groups.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        group: int = 1,
        clips: np.ndarray | None = None,
    ) -> None:
        if not 0 <= rank < world or batch_size < 1 or length < 1:
            raise ValueError(
                f"rank {rank} of {world}, batch size {batch_size}, {length} samples make no sense"
            )
        if group < 1 or batch_size % group:
            raise ValueError(f"groups of {group} windows do not fill batches of {batch_size}")
        if group > 1 and (clips is None or len(clips) != length):
            raise ValueError(f"groups of windows need to know the clip of each of {length} samples")
        self.length = length
        self.group = group if shuffle else 1
        self._clips = clips
        self._ordered = length if self.group == 1 else len(self._in_groups(np.arange(length)))
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    @property
    def global_batch(self) -> int:
        """Samples that all processes together take at once."""
        return self.world * self.batch_size

    def __len__(self) -> int:
        """Batches of an epoch on each process."""
        return self.remaining(0)

    def remaining(self, taken: int) -> int:
        """Batches that are left on each process when processes together have taken so many samples of the
        epoch.
        """
        left = max(0, self._ordered - taken)
        return left // self.global_batch if self.drop_last else -(-left // self.global_batch)

    def batches(self, epoch: int, taken: int = 0) -> Batches:
        """Keys (epoch, index) of the batches of this process, after so many samples of the epoch were taken
        by all processes, whatever their number was.
        """
        if self.shuffle:
            rng = np.random.default_rng((self.seed, epoch))
            order = np.arange(self.length, dtype=np.int32 if self.length < 2**31 else np.int64)
            rng.shuffle(order)
            if self.group > 1:
                order = rng.permutation(self._in_groups(order).reshape(-1, self.group)).ravel()
        else:
            order, epoch = np.arange(self.length), 0
        left = self.remaining(taken) * self.global_batch
        if self.drop_last or self.shuffle:
            stop = taken + left
        else:
            stop = taken + -(-max(0, self._ordered - taken) // self.world) * self.world
        return Batches(order, epoch, taken, stop, self.batch_size, self.rank, self.world)

    def _in_groups(self, order: np.ndarray) -> np.ndarray:
        """The samples clip by clip, those of each clip in the given order, filled up to whole groups."""
        assert self._clips is not None
        numbers = self._clips[order]
        order = order[np.argsort(numbers, kind="stable")]
        counts = np.unique(numbers, return_counts=True)[1]
        filled = -(-counts // self.group) * self.group
        first = np.cumsum(counts) - counts  # of each clip in `order`
        place = np.arange(filled.sum()) - np.repeat(np.cumsum(filled) - filled, filled)
        return order[np.repeat(first, filled) + place % np.repeat(counts, filled)]


class Batches(Sequence[list[tuple[int, int]]]):
    """Batches of one process, cut out of an order when they are asked for: an epoch of a large corpus has
    millions.

    Args:
        order: samples of the epoch.
        epoch: it.
        start, stop: places of `order` that all processes take together; beyond its end it begins again.
        batch_size: samples of a batch on one process; fewer in the last batch where they do not suffice.
        rank, world: of this process.
    """

    def __init__(
        self, order: np.ndarray, epoch: int, start: int, stop: int, batch_size: int, rank: int, world: int
    ) -> None:
        self.order = order
        self.epoch = epoch
        self.start = start
        self.stop = stop
        self.batch_size = batch_size
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // (self.batch_size * self.world))

    @overload
    def __getitem__(self, number: int) -> list[tuple[int, int]]: ...

    @overload
    def __getitem__(self, number: slice) -> list[list[tuple[int, int]]]: ...

    def __getitem__(self, number: int | slice) -> list[tuple[int, int]] | list[list[tuple[int, int]]]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"batch {number} of {len(self)}")
        return [(self.epoch, index) for index in self.indices(number % len(self)).tolist()]

    def indices(self, number: int) -> np.ndarray:
        """Samples of a batch, int `(batch_size,)`."""
        begin = self.start + number * self.batch_size * self.world
        mine = min(self.batch_size, (self.stop - begin) // self.world)
        places = np.arange(begin + self.rank * mine, begin + (self.rank + 1) * mine)
        return self.order.take(places, mode="wrap")
