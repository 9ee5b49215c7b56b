"""UniPC: a predictor and a corrector that share the calls of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from talkgen.diffusion.sampler import Denoise, Spacing, spaced_timesteps, step_pairs
from talkgen.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class UniPC:
    """UniPC-p on x̂₀, B(h) = e^{−h} − 1 ("UniPC", Zhao et al. 2023, algorithms 1 and 2, data prediction).

    A step goes from t to s with the last p beliefs (predictor, order p); the belief at s then corrects the
    step that led there (corrector, order p + 1) before the next one starts, at no further call.

    Attributes:
        steps: calls of the network.
        order: p; the first steps and the last ones have less, down to 1 for that to the clean picture.
        spacing: see ``spaced_timesteps``.
    """

    steps: int = 10
    order: int = 2
    spacing: Spacing = "log_snr"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order is 1, 2 or 3, not {self.order}")

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
        x = start = noise
        beliefs: list[tuple[float, Tensor]] = []  # (λ, x̂₀), newest last
        pairs = step_pairs(self.timesteps(schedule))
        for i, (t, s) in enumerate(pairs):
            x0 = denoise(x, t).x0
            if s < 0:
                return x0
            if beliefs:
                x = _step(schedule, start, pairs[i - 1][0], t, beliefs, arrived=x0)
            beliefs = [*beliefs, (schedule.log_snr(t), x0)][-min(self.order, len(pairs) - i) :]
            start, x = x, _step(schedule, x, t, s, beliefs)
        return x


def _step(
    schedule: NoiseSchedule,
    x: Tensor,
    t: int,
    s: int,
    beliefs: list[tuple[float, Tensor]],
    arrived: Tensor | None = None,
) -> Tensor:
    """From t to s; with x̂₀(s) (``arrived``) the corrector, without it the predictor."""
    now, later = schedule.alpha_bar(t), schedule.alpha_bar(s)
    (origin, newest), older = beliefs[-1], beliefs[:-1]
    width = schedule.log_snr(s) - origin
    # Where the other beliefs lie, as a share of the step; the step's end is 1.
    places = [(place - origin) / width for place, _ in reversed(older)]
    differences = [belief - newest for _, belief in reversed(older)]
    if arrived is not None:
        places.append(1.0)
        differences.append(arrived - newest)
    growth = math.expm1(-width)
    x = math.sqrt((1 - later) / (1 - now)) * x - math.sqrt(later) * growth * newest
    for weight, difference in zip(_weights(tuple(places), width), differences, strict=True):
        x = x - math.sqrt(later) * growth * weight * difference
    return x


def _weights(places: tuple[float, ...], width: float) -> list[float]:
    """Weights a_m of the differences: Σ_m a_m r_m^k = k! φ_{k+1}(−h) / φ₁(−h), k = 1 … p.

    That is UniPC's linear system (eq. 5) with B(h) taken out; φ_{k+1}(z) = (φ_k(z) − 1/k!) / z. One
    difference alone gets 1 / 2r, the system's limit for small steps, as published.
    """
    count = len(places)
    if count == 1:
        return [0.5 / places[0]]
    z = -width
    phi = math.expm1(z) / z
    first, wanted = phi, []
    for k in range(1, count + 1):
        phi = (phi - 1 / math.factorial(k)) / z
        wanted.append(math.factorial(k) * phi / first)
    powers = np.array([[place**k for place in places] for k in range(1, count + 1)])
    return np.linalg.solve(powers, np.array(wanted)).tolist() if count else []
