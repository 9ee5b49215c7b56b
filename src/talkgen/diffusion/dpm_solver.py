"""DPM-Solver++: second-order steps from what two calls of the network believe of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from talkgen.diffusion.sampler import Denoise, Spacing, spaced_timesteps, step_pairs
from talkgen.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++(2M) ("DPM-Solver++", Lu et al. 2022, algorithm 2).

    x_s = (σ_s/σ_t) x_t − α_s (e^{−h} − 1) D,  D = (1 + 1/2r) x̂₀(t) − 1/2r x̂₀(t'),
    with h = λ_s − λ_t, r = (λ_t − λ_t') / h, and t' the timestep before t. The first step and the last, to
    the clean picture, are of first order.

    Attributes:
        steps: calls of the network.
        spacing: see ``spaced_timesteps``.
    """

    steps: int = 10
    spacing: Spacing = "log_snr"

    def timesteps(self, schedule: NoiseSchedule) -> tuple[int, ...]:
        """See ``Sampler``."""
        return spaced_timesteps(schedule, self.steps, self.spacing)

    def sample(
        self,
        schedule: NoiseSchedule,
        denoise: Denoise,
        noise: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See ``Sampler``; deterministic."""
        x, before, width_before = noise, None, 0.0
        for t, s in step_pairs(self.timesteps(schedule)):
            x0 = denoise(x, t).x0
            if s < 0:
                return x0
            now, later = schedule.alpha_bar(t), schedule.alpha_bar(s)
            width = schedule.log_snr(s) - schedule.log_snr(t)
            direction = x0
            if before is not None:
                extrapolation = width / (2 * width_before)
                direction = (1 + extrapolation) * x0 - extrapolation * before
            x = math.sqrt((1 - later) / (1 - now)) * x - math.sqrt(later) * math.expm1(-width) * direction
            before, width_before = x0, width
        return x
