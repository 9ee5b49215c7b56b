"""What every sampler is, and the timesteps that it may visit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from talkgen.diffusion.schedule import Estimate, NoiseSchedule

Denoise: TypeAlias = Callable[[Tensor, int], Estimate]
"""(x_t, t) → what the network believes of x_t; all items of a batch are at the same timestep."""

Spacing = Literal["leading", "trailing", "log_snr"]


class Sampler(Protocol):
    """From noise to a picture in a few calls of a network.

    A sampler holds settings only, so that one can be kept for any schedule and any number of pictures.
    """

    def timesteps(self, schedule: NoiseSchedule) -> tuple[int, ...]:
        """Where the network is called, noisiest first; one call each."""

    def sample(
        self,
        schedule: NoiseSchedule,
        denoise: Denoise,
        noise: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The picture that ``noise`` (x at the first timestep) turns into.

        Args:
            schedule: that the network was trained with.
            denoise: the network.
            noise: standard normal, any shape.
            generator: of the noise that stochastic samplers add.
        """


def spaced_timesteps(schedule: NoiseSchedule, steps: int, spacing: Spacing) -> tuple[int, ...]:
    """``steps`` of the schedule's timesteps, noisiest first.

    Args:
        schedule: T timesteps.
        steps: how many.
        spacing: ``leading``: 0, s, 2s, … of the stride that gives as many (guided-diffusion's "ddimN"): 25 of
            1000 are 960, 920, …, 0; where none does, of stride ⌊T / steps⌋. ``trailing``: the same distance
            apart, counted from the last one. ``log_snr``: as evenly in log(α/σ) as integers allow, from the
            last timestep to the first.

    Raises:
        ValueError: there are not as many timesteps.
    """
    total = schedule.steps
    if not 1 <= steps <= total:
        raise ValueError(f"{steps} steps of a schedule that has {total}")
    if spacing == "leading":
        stride = math.ceil(total / steps)
        if math.ceil(total / stride) != steps:
            stride = total // steps
        return tuple(range(0, total, stride)[:steps][::-1])
    if spacing == "trailing":
        return tuple(round(total - i * total / steps) - 1 for i in range(steps))
    if spacing != "log_snr":
        raise ValueError(f"spacing is leading, trailing or log_snr, not {spacing!r}")
    if steps == 1:
        return (total - 1,)
    first, last = schedule.log_snr(total - 1), schedule.log_snr(0)
    chosen: list[int] = []
    t = total - 1
    for i in range(steps):
        wanted = first + (last - first) * i / (steps - 1)
        while t > steps - 1 - i and schedule.log_snr(t - 1) <= wanted + 1e-9:
            t -= 1  # not below the number of timesteps that are still to come
        chosen.append(t)
        t -= 1
    return tuple(chosen)


def step_pairs(timesteps: tuple[int, ...]) -> list[tuple[int, int]]:
    """(from, to) of every step; the last one goes to −1, the clean picture."""
    return list(zip(timesteps, (*timesteps[1:], -1), strict=True))
