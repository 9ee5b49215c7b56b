"""What a denoising network is taught: the noise, its variance, and the picture that follows from both."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from talkgen.diffusion.gaussian import GaussianDiffusion, bound_gradient, clamp_through


@dataclass(frozen=True)
class TermTimesteps:
    """At which timesteps each of Diff2Lip's terms on the estimated picture acts: from the first number on, up
    to but without the second.

    Early timesteps show the lips already; late ones leave them to the sound, but their estimate is a blur.
    The paper does not say which it takes; all of them is the default.

    Attributes:
        l2: squared error of x̂₀.
        perceptual: perceptual distance of x̂₀.
        sync: what the lip-sync expert says of x̂₀.
        adversarial: what the discriminator says of x̂₀, and what it learns from.
    """

    l2: tuple[int, int] = (0, 1000)
    perceptual: tuple[int, int] = (0, 1000)
    sync: tuple[int, int] = (0, 1000)
    adversarial: tuple[int, int] = (0, 1000)

    def __post_init__(self) -> None:
        """Refuse ranges without a timestep."""
        for field in fields(self):
            value = getattr(self, field.name)
            if len(value) != 2 or not 0 <= value[0] < value[1]:
                raise ValueError(f"{field.name} must be (first, stop) with 0 ≤ first < stop, not {value!r}")

    def active(self, term: str, t: Int[Tensor, " b"]) -> Bool[Tensor, " b"]:
        """Whether ``term`` acts at each of ``t``."""
        first, stop = getattr(self, term)
        return (t >= first) & (t < stop)


@dataclass(frozen=True)
class DenoisingTerms:
    """The terms of one batch, unweighted.

    Attributes:
        noise: mean masked squared error of the prediction (of ε, or whatever the network predicts).
        variational: mean of the bound, which teaches the variance; None where that is not learned.
        x0: ``(b, …)``, the estimated picture in [-1, 1]. Its gradient passes the clamp (``clamp_through``)
            and is bounded (``bound_gradient``).
    """

    noise: Float[Tensor, ""]
    variational: Float[Tensor, ""] | None
    x0: Tensor


class DenoisingLoss(nn.Module):
    """E ‖m ⊙ (ε − ε̂)‖² and E m ⊙ L_vlb, the hybrid objective of improved DDPM inside a mask.

    The published code multiplies the bound by the mask and takes means over all pixels, and so does this. The
    network cannot know ε outside the mask: it is shown the clean picture there.

    Args:
        diffusion: what the output means.
        min_snr: γ of min-SNR weighting; None weighs every timestep's squared error alike, as published.
        bounded: bound the gradient of x̂₀ by min(1, 1 / |∂x̂₀/∂prediction|), so that terms on it do not teach
            the noisiest timesteps alone: α_t/σ_t for predicted noise; predicted velocities and pictures need
            no bound.
    """

    def __init__(
        self, diffusion: GaussianDiffusion, min_snr: float | None = None, bounded: bool = True
    ) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.min_snr = min_snr
        self.bounded = bounded

    def forward(
        self,
        output: Tensor,
        x0: Float[Tensor, "b ..."],
        noise: Tensor,
        noisy: Tensor,
        t: Int[Tensor, " b"],
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> DenoisingTerms:
        """See ``GaussianDiffusion.errors``, whose arguments these are."""
        schedule = self.diffusion.schedule
        errors = self.diffusion.errors(output, x0, noise, noisy, t, mask, weight)
        simple = errors.simple
        if self.min_snr is not None:
            simple = simple * schedule.min_snr_weight(t, self.diffusion.prediction, self.min_snr)
        variational = None if errors.variational is None else errors.variational.mean()
        estimate = clamp_through(errors.x0)
        if self.bounded and self.diffusion.prediction == "noise":
            estimate = bound_gradient(estimate, (schedule.alpha[t] / schedule.sigma[t]).clamp_max(1))
        return DenoisingTerms(simple.mean(), variational, estimate)


def squared_error(
    generated: Float[Tensor, "b ..."],
    ground_truth: Float[Tensor, "b ..."],
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Float[Tensor, " b"]:
    """w ‖m ⊙ (x̂₀ − x₀)‖², mean over all elements of an item."""
    difference = generated - ground_truth
    squared = (difference if mask is None else difference * mask).square()
    return (squared if weight is None else weight * squared).flatten(1).mean(1)


def active_mean(values: Float[Tensor, " b"], active: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Sum over the items at which a term acts, divided by the number of all."""
    return torch.where(active, values, 0).mean()
