"""Ancestral sampling: the reverse Markov chain itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from talkgen.diffusion.sampler import Denoise, Spacing, spaced_timesteps, step_pairs
from talkgen.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Ancestral:
    """x_s ~ N(μ̃(x̂₀, x_t), Σ), the posterior of a step from t to s (DDPM, algorithm 2).

    Where timesteps are left out, β is that of the whole step, 1 − ᾱ_t / ᾱ_s, and a learned variance keeps its
    place between the new bounds ("Improved DDPM", section 4).

    Attributes:
        steps: calls of the network.
        variance: which bound is taken where the network learns none: ``small`` is β̃, ``large`` is β.
        spacing: see ``spaced_timesteps``.
    """

    steps: int = 250
    variance: Literal["small", "large"] = "small"
    spacing: Spacing = "leading"

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
        """See ``Sampler``. No noise is added in the last step."""
        x = noise
        for t, s in step_pairs(self.timesteps(schedule)):
            estimate = denoise(x, t)
            if s < 0:
                return estimate.x0
            now, later = schedule.alpha_bar(t), schedule.alpha_bar(s)
            beta = 1 - now / later
            mean = (
                beta * math.sqrt(later) / (1 - now) * estimate.x0
                + (1 - later) * math.sqrt(1 - beta) / (1 - now) * x
            )
            smallest, largest = beta * (1 - later) / (1 - now), beta
            fresh = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            if estimate.variance is None:
                x = mean + math.sqrt(smallest if self.variance == "small" else largest) * fresh
            else:
                log_range = math.log(largest) - math.log(smallest)
                x = mean + (0.5 * (math.log(smallest) + estimate.variance * log_range)).exp() * fresh
        return x
