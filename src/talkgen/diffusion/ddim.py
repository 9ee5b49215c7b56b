"""DDIM: the sampler of the published Diff2Lip."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from talkgen.diffusion.sampler import Denoise, Spacing, spaced_timesteps, step_pairs
from talkgen.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class DDIM:
    """x_s = α_s x̂₀ + √(σ_s² − ς²) ε̂ + ς z ("Denoising Diffusion Implicit Models", eq. 12).

    Attributes:
        steps: calls of the network.
        eta: 0 is deterministic (ς = 0), 1 as noisy as ancestral sampling.
        spacing: see ``spaced_timesteps``; the published setting is 25 leading steps.
    """

    steps: int = 25
    eta: float = 0.0
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
        """See ``Sampler``."""
        x = noise
        for t, s in step_pairs(self.timesteps(schedule)):
            estimate = denoise(x, t)
            now, later = schedule.alpha_bar(t), schedule.alpha_bar(s)
            fresh = self.eta * math.sqrt((1 - later) / (1 - now) * (1 - now / later))
            x = math.sqrt(later) * estimate.x0 + math.sqrt(1 - later - fresh**2) * estimate.noise
            if fresh > 0:
                x = x + fresh * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return x
