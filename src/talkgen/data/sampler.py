"""Which sample comes when, on which process."""

from __future__ import annotations

import numpy as np


class EpochSampler:
    """The order of an epoch: a permutation that depends on (seed, epoch) alone, cut into batches for every
    process.

    A *global batch* is `world * batch_size` consecutive samples of the permutation; process `rank` takes the
    `rank`-th part of each. So all processes have the same number of batches, together they see every
    sample exactly once, and the order of samples does not depend on how many processes share a global
    batch. What is left at the end is filled up from the beginning of the permutation when training (each
    epoch repeats fewer than a global batch of samples), or left out with `drop_last`. Without `shuffle`
    (evaluation) the last batch may be smaller, and samples are repeated only where processes would
    otherwise differ in number.

    Args:
        length: samples of an epoch.
        batch_size: samples of a batch on one process.
        seed: of the permutations.
        shuffle: permute; False: samples in their order, the same every epoch.
        drop_last: leave out what does not fill a global batch.
        rank: of this process.
        world: number of processes.
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
    ) -> None:
        if not 0 <= rank < world or batch_size < 1 or length < 1:
            raise ValueError(
                f"rank {rank} of {world}, batch size {batch_size}, {length} samples make no sense"
            )
        self.length = length
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
        if self.drop_last:
            return max(self.length // self.global_batch, 0)
        return -(-self.length // self.global_batch)

    def batches(self, epoch: int, first: int = 0) -> list[list[tuple[int, int]]]:
        """Keys (epoch, index) of the batches of this process, from batch number `first` on."""
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        else:
            order, epoch = np.arange(self.length), 0
        step = self.global_batch
        if self.drop_last:
            order = order[: len(self) * step]
        elif self.shuffle:
            order = np.resize(order, len(self) * step)
        else:
            order = np.resize(order, -(-self.length // self.world) * self.world)
        parts = []
        for begin in range(first * step, len(order), step):
            whole = order[begin : begin + step]
            mine = whole.reshape(self.world, -1)[self.rank]
            parts.append([(epoch, int(index)) for index in mine])
        return parts
