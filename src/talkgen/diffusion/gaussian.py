"""What a network learns of Gaussian diffusion, and what is read off its output.

"Improved Denoising Diffusion Probabilistic Models" (Nichol and Dhariwal, 2021), restricted to a mask where
only a part of the picture is generated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from talkgen.diffusion.schedule import Estimate, NoiseSchedule, Prediction


@dataclass(frozen=True)
class DenoisingErrors:
    """How wrong a prediction is, one number an item.

    Attributes:
        simple: ‖m ⊙ (target − prediction)‖², mean over all elements; the target is ε, v or x₀.
        variational: the bound's term in bits per element, or None without learned variances. Its gradient
            reaches the variance alone.
        x0: the clean picture that the prediction amounts to, unclamped.
    """

    simple: Float[Tensor, " b"]
    variational: Float[Tensor, " b"] | None
    x0: Tensor


class GaussianDiffusion(nn.Module):
    """A schedule, and what the network's output means.

    Args:
        schedule: noise at each timestep.
        prediction: what the first half of the output is (all of it without ``learned_range``).
        learned_range: the second half of the output says, on a scale from −1 to 1, where the log-variance
            lies between its bounds.
    """

    def __init__(
        self, schedule: NoiseSchedule, prediction: Prediction = "noise", learned_range: bool = True
    ) -> None:
        super().__init__()
        if prediction not in ("noise", "velocity", "x0"):
            raise ValueError(f"prediction is noise, velocity or x0, not {prediction!r}")
        self.schedule = schedule
        self.prediction: Prediction = prediction
        self.learned_range = learned_range

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Prediction, and the variance's place in its range (0 … 1) where it is learned; float32."""
        output = output.float()  # σ/α reaches 160: half precision would not do
        if not self.learned_range:
            return output, None
        predicted, place = output.chunk(2, dim=1)
        return predicted, (place + 1) / 2

    def estimate(self, output: Tensor, noisy: Tensor, t: Int[Tensor, " b"], clamp: bool = False) -> Estimate:
        """What the network's output says about ``noisy``; see ``NoiseSchedule.estimate``."""
        predicted, place = self.split(output)
        estimate = self.schedule.estimate(predicted, noisy, t, self.prediction, clamp)
        return Estimate(estimate.x0, estimate.noise, place)

    def errors(
        self,
        output: Tensor,
        x0: Float[Tensor, "b ..."],
        noise: Tensor,
        noisy: Tensor,
        t: Int[Tensor, " b"],
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> DenoisingErrors:
        """Compare a network's output with what was hidden from it.

        Args:
            output: of the network, for ``noisy`` at ``t``.
            x0: the clean picture.
            noise: ε.
            noisy: x_t = α_t x₀ + σ_t ε.
            t: ``(b,)``.
            mask: 1 where errors count; broadcast over ``x0``. Means are over all elements all the same, as in
                the published code.
            weight: of each pixel's squared error in ``simple``; broadcast over ``x0``.
        """
        predicted, place = self.split(output)
        difference = self.schedule.target(x0, noise, t, self.prediction) - predicted
        if mask is not None:
            difference = difference * mask
        squared = difference.square() if weight is None else weight * difference.square()
        simple = squared.flatten(1).mean(1)
        estimate = self.schedule.estimate(predicted, noisy, t, self.prediction)
        variational = None
        if place is not None:
            variational = self._variational(estimate.x0.detach(), place, x0, noisy, t, mask)
        return DenoisingErrors(simple, variational, estimate.x0)

    def _variational(
        self, estimate: Tensor, place: Tensor, x0: Tensor, noisy: Tensor, t: Tensor, mask: Tensor | None
    ) -> Float[Tensor, " b"]:
        """L_{t−1} = KL(q(x_{t−1} | x_t, x₀) ‖ p(x_{t−1} | x_t)), and −log p(x₀ | x₁) at t = 0 (eqs. 5, 6)."""
        schedule = self.schedule
        mean = schedule.posterior_mean(estimate, noisy, t)
        log_variance = schedule.log_variance(place, t)
        true_mean = schedule.posterior_mean(x0, noisy, t)
        true_log_variance = schedule.log_variance(torch.zeros_like(place), t)
        divergence = gaussian_kl(true_mean, true_log_variance, mean, log_variance)
        likelihood = discretised_log_likelihood(x0, mean, 0.5 * log_variance)
        first = (t == 0).view(-1, *[1] * (x0.ndim - 1))
        bound = torch.where(first, -likelihood, divergence) / math.log(2)
        return (bound if mask is None else bound * mask).flatten(1).mean(1)


def gaussian_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N₁ ‖ N₂) of each element, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        - 1
        + (log_variance1 - log_variance2).exp()
        + (mean1 - mean2).square() * (-log_variance2).exp()
    )


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """log of the mass that a Gaussian puts on x's bin, in nats; bins are those of 256 levels in [-1, 1].

    The outermost bins reach to infinity (DDPM, eq. 13).
    """
    precision = (-log_deviation).exp()
    upper = precision * (x - mean + 1 / 255)
    lower = precision * (x - mean - 1 / 255)
    # Both tails through the smaller side, where the difference of two numbers near 1 would lose all digits.
    inner = torch.where(
        x > mean,
        torch.special.ndtr(-lower) - torch.special.ndtr(-upper),
        torch.special.ndtr(upper) - torch.special.ndtr(lower),
    )
    inner = inner.clamp_min(1e-12).log()
    low_end, high_end = torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower)
    return torch.where(x < -0.999, low_end, torch.where(x > 0.999, high_end, inner))


def bound_gradient(x0: Float[Tensor, "b ..."], factor: Float[Tensor, " b"]) -> Tensor:
    """``x0`` as it is, whose gradient is multiplied by ``factor`` on the way back.

    ∂x̂₀/∂ε̂ = −σ_t/α_t grows to 160 at the end of the linear schedule, so that losses on x̂₀ would teach the
    network little but its noisiest steps. With ``factor`` = min(1, α_t/σ_t) no step pushes harder than its
    error.
    """
    factor = factor.view(-1, *[1] * (x0.ndim - 1))
    return x0.detach() + factor * (x0 - x0.detach())


def clamp_through(x0: Tensor) -> Tensor:
    """``x0`` in [-1, 1], with the gradient of ``x0`` itself.

    At the noisiest timesteps a small error of ε̂ throws x̂₀ far out of range. A plain clamp has no gradient
    there, so that losses on x̂₀ would be silent exactly where they are needed; without a clamp they would be
    a thousand times too loud.
    """
    return x0 + (x0.clamp(-1, 1) - x0).detach()


def stratified_timesteps(
    count: int,
    steps: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    noisier: float = 1.0,
) -> Int[Tensor, " count"]:
    """Timesteps, one in each of ``count`` equal parts of the distribution, in random order.

    Each by itself is uniform over 0 … ``steps`` − 1; together they see early and late steps in every batch,
    which takes variance out of the loss ("Variational Diffusion Models", appendix I.1).

    Args:
        count: of timesteps.
        steps: T.
        generator: where chance comes from.
        device: of the result.
        noisier: γ of t = T u^(1/γ) with u uniform: 1 is uniform, above it noisy timesteps are drawn oftener.
    """
    shift = torch.rand((), generator=generator, device=device)
    places = (torch.arange(count, device=device) + shift) / count
    order = torch.randperm(count, generator=generator, device=device)
    return (places[order] ** (1 / noisier) * steps).long().clamp_max(steps - 1)
