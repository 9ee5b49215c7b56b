"""Random numbers of a step depend on the seed and the step alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from talkgen.global_batch import begin_step
from talkgen.systems.partials import accumulation


class SeedEachStep(Callback):
    """Seed Python's, NumPy's and PyTorch's generators from (seed, rank, batch) before every batch.

    What a step draws for its samples (``talkgen.global_batch``) is the same for all parts of its batch: those
    on several processes, and those that are accumulated one after the other.

    A resumed run then draws the numbers that the unbroken one would have drawn, however often loaders,
    validation or samples drew in between (after EDM's training loop, which does the same).

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for this batch."""
        rank, world = trainer.global_rank, trainer.world_size
        small = accumulation(trainer, pl_module)
        whole = batch_idx // small
        shared = np.random.SeedSequence([self.seed, 0, whole]).generate_state(3)
        begin_step(int(shared[2]), batch_idx % small * world + rank, small * world)
        state = np.random.SeedSequence([self.seed, trainer.global_rank, batch_idx]).generate_state(3)
        random.seed(int(state[0]))
        np.random.seed(state[1])  # noqa: NPY002 (code that draws from the global generator is the reason)
        torch.manual_seed(int(state[2]))
