"""Learning rates over a run."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer,
    steps: int,
    warmup_steps: int = 0,
    final: float = 0.0,
) -> LambdaLR:
    """Linear warm-up, then half a cosine.

    rate(i) = (i + 1) / (warmup + 1) before ``warmup_steps``, then final + (1 - final) (1 + cos πp) / 2, where
    p goes from 0 to 1 over the rest.

    Args:
        optimizer: its own rate is multiplied.
        steps: length of the run, in batches.
        warmup_steps: batches until the full rate; 0 means none.
        final: factor at the end; 1 means a constant rate after the warm-up.
    """

    def rate(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, rate)


def annealed_rounds(optimizer: Optimizer, steps: int, rounds: int, warmup_steps: int = 0) -> LambdaLR:
    """Linear fall to 0 in each of several rounds, as progressive distillation has it.

    rate(i) = min(1, (p + 1) / (warmup + 1)) (1 − p / n), with n = ⌈steps / rounds⌉ batches a round and p the
    place in it.

    Args:
        optimizer: its own rate is multiplied.
        steps: length of the run, in batches.
        rounds: how many.
        warmup_steps: batches until the full rate, at the beginning of each round.
    """
    length = math.ceil(steps / rounds)

    def rate(step: int) -> float:
        place = step % length
        return min(1.0, (place + 1) / (warmup_steps + 1)) * (1 - place / length)

    return LambdaLR(optimizer, rate)
