"""Data for which the best possible denoiser, and where its samples must end, are known exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from talkgen.diffusion.schedule import Estimate, linear_schedule

SCHEDULE = linear_schedule()


class Mixture:
    """Data of a one-dimensional Gaussian mixture.

    Args:
        weights: of the components, adding up to 1.
        means: of the components.
        deviations: of the components.
    """

    def __init__(self, weights: list[float], means: list[float], deviations: list[float]) -> None:
        self.weights, self.means, self.deviations = (
            torch.tensor(values, dtype=torch.float64) for values in (weights, means, deviations)
        )

    def _at(self, t: int) -> tuple[float, float, Tensor]:
        alpha_bar = SCHEDULE.alpha_bar(t)
        return math.sqrt(alpha_bar), 1 - alpha_bar, alpha_bar * self.deviations**2 + 1 - alpha_bar

    def denoise(self, x: Tensor, t: int) -> Estimate:
        """E[x₀ | x_t], and the ε that goes with it."""
        alpha, noise_variance, variance = self._at(t)
        offset = x[..., None] - alpha * self.means
        log_share = self.weights.log() - 0.5 * variance.log() - 0.5 * offset**2 / variance
        mean = self.means + alpha * self.deviations**2 / variance * offset
        x0 = (log_share.softmax(-1) * mean).sum(-1)
        return Estimate(x0, (x - alpha * x0) / math.sqrt(noise_variance))

    def quantile(self, x: Tensor, t: int) -> Tensor:
        """Probability of less than x at timestep t."""
        alpha, _, variance = self._at(t)
        return (self.weights * torch.special.ndtr((x[..., None] - alpha * self.means) / variance.sqrt())).sum(
            -1
        )

    def exact(self, x: Tensor, t: int) -> Tensor:
        """Where the probability flow takes x: in one dimension it keeps every point's quantile."""
        wanted = self.quantile(x, t)
        low, high = torch.full_like(x, -4), torch.full_like(x, 4)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.quantile(middle, -1) < wanted
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low


GAUSSIAN = Mixture([1.0], [0.3], [0.5])
MIXTURE = Mixture([0.3, 0.5, 0.2], [-0.7, 0.1, 0.8], [0.05, 0.2, 0.1])
