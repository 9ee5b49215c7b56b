"""How much signal and how much noise there is at each timestep, and what follows from that.

x_t = α_t x₀ + σ_t ε with α_t² = ᾱ_t = Π_{s ≤ t} (1 − β_s) and σ_t² = 1 − ᾱ_t ("Denoising Diffusion
Probabilistic Models", eq. 4). Timesteps are integers 0 … T − 1; −1 stands for the clean picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Prediction = Literal["noise", "velocity", "x0"]


@dataclass(frozen=True)
class Estimate:
    """What is believed of a noisy picture.

    Attributes:
        x0: the clean picture.
        noise: ε, consistent with ``x0``: x_t = α_t x0 + σ_t noise.
        variance: log-variance of the reverse step as its place between the smallest (0) and the largest (1)
            possible, where the network predicts it.
    """

    x0: Tensor
    noise: Tensor
    variance: Tensor | None = None


def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 2e-2) -> np.ndarray:
    """β rises linearly (DDPM, section 4); for other numbers of steps it is scaled so that ᾱ_T stays."""
    scale = 1000 / steps
    return np.linspace(scale * first, scale * last, steps, dtype=np.float64)


def cosine_betas(steps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """ᾱ follows cos² ("Improved Denoising Diffusion Probabilistic Models", eq. 17)."""
    angle = (np.arange(steps + 1) / steps + offset) / (1 + offset) * math.pi / 2
    alpha_bar = np.cos(angle) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], largest)


class NoiseSchedule(nn.Module):
    """The numbers of a schedule, on the device of the module that holds it.

    They are computed in double precision and kept in single, for every timestep; they are no part of
    checkpoints.

    Args:
        betas: β_0 … β_{T−1}, each in (0, 1).
    """

    alpha: Tensor  # (T,) α_t
    sigma: Tensor  # (T,) σ_t
    posterior_x0: Tensor  # (T,) weights of x₀ and x_t in the posterior's mean
    posterior_noisy: Tensor  # (T,)
    smallest_log_variance: Tensor  # (T,) log β̃_t, that of the posterior
    largest_log_variance: Tensor  # (T,) log β_t

    def __init__(self, betas: Sequence[float] | np.ndarray) -> None:
        super().__init__()
        beta = np.asarray(betas, np.float64)
        if beta.ndim != 1 or len(beta) < 2 or not ((beta > 0) & (beta < 1)).all():
            raise ValueError("a schedule is a list of at least two numbers in (0, 1)")
        self.steps = len(beta)
        alpha_bar = np.cumprod(1 - beta)
        before = np.append(1.0, alpha_bar[:-1])
        # Python numbers for samplers, which would wait for the device otherwise.
        self._alpha_bar = tuple(alpha_bar.tolist())
        posterior_variance = beta * (1 - before) / (1 - alpha_bar)
        # β̃_0 is 0; its logarithm is replaced by the next one's (improved-diffusion).
        posterior_variance[0] = posterior_variance[1]
        buffers = {
            "alpha": np.sqrt(alpha_bar),
            "sigma": np.sqrt(1 - alpha_bar),
            "posterior_x0": beta * np.sqrt(before) / (1 - alpha_bar),
            "posterior_noisy": (1 - before) * np.sqrt(1 - beta) / (1 - alpha_bar),
            "smallest_log_variance": np.log(posterior_variance),
            "largest_log_variance": np.log(beta),
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NoiseSchedule:
        """Follow to another device, but stay in single precision, which ᾱ_t needs."""
        return super()._apply(lambda values: values.to(fn(values).device), recurse)

    def alpha_bar(self, timestep: int) -> float:
        """ᾱ_t in double precision; 1 at −1."""
        return 1.0 if timestep < 0 else self._alpha_bar[timestep]

    def log_snr(self, timestep: int) -> float:
        """λ_t = log(α_t / σ_t), half the logarithm of the signal-to-noise ratio; ∞ at −1."""
        bar = self.alpha_bar(timestep)
        return math.inf if bar == 1.0 else 0.5 * (math.log(bar) - math.log1p(-bar))

    def add_noise(self, x0: Float[Tensor, "b ..."], noise: Tensor, t: Int[Tensor, " b"]) -> Tensor:
        """x_t = α_t x₀ + σ_t ε."""
        return at(self.alpha, t, x0) * x0 + at(self.sigma, t, x0) * noise

    def velocity(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """v = α_t ε − σ_t x₀ ("Progressive Distillation", appendix D)."""
        return at(self.alpha, t, x0) * noise - at(self.sigma, t, x0) * x0

    def target(self, x0: Tensor, noise: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """What a network that predicts ``prediction`` is to give."""
        if prediction == "noise":
            return noise
        return x0 if prediction == "x0" else self.velocity(x0, noise, t)

    def estimate(
        self, predicted: Tensor, noisy: Tensor, t: Tensor, prediction: Prediction, clamp: bool = False
    ) -> Estimate:
        """x₀ and ε from any kind of prediction.

        Args:
            predicted: ``(b, …)``.
            noisy: x_t.
            t: ``(b,)``.
            prediction: what ``predicted`` is.
            clamp: bring x₀ into [-1, 1], and take the noise that belongs to it (DDIM as published).
        """
        alpha, sigma = at(self.alpha, t, noisy), at(self.sigma, t, noisy)
        if prediction == "noise":
            x0, noise = (noisy - sigma * predicted) / alpha, predicted
        elif prediction == "velocity":
            x0, noise = alpha * noisy - sigma * predicted, sigma * noisy + alpha * predicted
        elif prediction == "x0":
            x0, noise = predicted, (noisy - alpha * predicted) / sigma
        else:
            raise ValueError(f"prediction is noise, velocity or x0, not {prediction!r}")
        if clamp:
            x0 = x0.clamp(-1, 1)
            noise = (noisy - alpha * x0) / sigma
        return Estimate(x0, noise)

    def posterior_mean(self, x0: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """Mean of q(x_{t−1} | x_t, x₀) (DDPM, eq. 7)."""
        return at(self.posterior_x0, t, noisy) * x0 + at(self.posterior_noisy, t, noisy) * noisy

    def log_variance(self, place: Tensor, t: Tensor) -> Tensor:
        """log Σ = v log β_t + (1 − v) log β̃_t, v = ``place`` (improved DDPM, eq. 15)."""
        smallest = at(self.smallest_log_variance, t, place)
        return smallest + place * (at(self.largest_log_variance, t, place) - smallest)

    def snr(self, t: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """α_t² / σ_t²."""
        return (self.alpha[t] / self.sigma[t]).square()

    def min_snr_weight(
        self, t: Int[Tensor, " b"], prediction: Prediction, gamma: float = 5.0
    ) -> Float[Tensor, " b"]:
        """What a window's squared error is multiplied by ("Efficient Diffusion Training via Min-SNR").

        min(SNR, γ) of an error of x₀ amounts to min(SNR, γ) / SNR of one of ε, and min(SNR, γ) / (SNR + 1)
        of one of v.
        """
        snr = self.snr(t)
        weight = snr.clamp_max(gamma)
        if prediction == "noise":
            return weight / snr
        return weight if prediction == "x0" else weight / (snr + 1)


def linear_schedule(steps: int = 1000, first: float = 1e-4, last: float = 2e-2) -> NoiseSchedule:
    """The schedule of ``linear_betas``; Diff2Lip's with the defaults."""
    return NoiseSchedule(linear_betas(steps, first, last))


def cosine_schedule(steps: int = 1000) -> NoiseSchedule:
    """The schedule of ``cosine_betas``."""
    return NoiseSchedule(cosine_betas(steps))


def at(values: Float[Tensor, " steps"], t: Int[Tensor, " b"], like: Tensor) -> Tensor:
    """``values[t]`` with as many dimensions as ``like``."""
    return values[t].view(-1, *[1] * (like.ndim - 1))
