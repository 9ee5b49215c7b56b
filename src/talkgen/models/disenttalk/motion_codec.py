"""E_3d and D_3d of the paper's figure as a variational autoencoder a region; optional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.global_batch import normal_like


@dataclass(frozen=True)
class MotionCode:
    """What a region's encoder says of motion.

    Attributes:
        mean: ``(b, t, latent sizes)`` of the posterior.
        log_variance: the same shape.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """A latent of the posterior."""
        return self.mean + (0.5 * self.log_variance).exp() * normal_like(self.mean)

    def divergence(self) -> Float[Tensor, ""]:
        """KL to the standard normal, mean over all numbers, nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).mean()


class RegionCodec(nn.Module):
    """One small convolutional autoencoder a region, along time without stride: frames stay frames.

    The figure draws E_3d and D_3d as small trapezoids around the diffusion and says nothing of them.

    Args:
        sizes: numbers of each region, as ``MotionSpace`` has them.
        latent_sizes: of each region's latent.
        width: channels.

    Shapes: ``(b, t, sum of sizes)`` ↔ ``(b, t, sum of latent sizes)``.
    """

    def __init__(self, sizes: Sequence[int], latent_sizes: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.sizes, self.latent_sizes = tuple(sizes), tuple(latent_sizes)
        pairs = list(zip(self.sizes, self.latent_sizes, strict=True))
        self.encoders = nn.ModuleList(_Convolutions(a, 2 * b, width) for a, b in pairs)
        self.decoders = nn.ModuleList(_Convolutions(b, a, width) for a, b in pairs)

    def encode(self, z: Float[Tensor, "b t n"]) -> MotionCode:
        """Latents of motion."""
        parts = zip(self.encoders, z.split(self.sizes, dim=2), strict=True)
        said = [encoder(part).chunk(2, dim=2) for encoder, part in parts]
        means, variances = zip(*said, strict=True)
        return MotionCode(torch.cat(means, 2), torch.cat(variances, 2).clamp(-12, 8))

    def decode(self, latent: Float[Tensor, "b t m"]) -> Float[Tensor, "b t n"]:
        """Motion of latents."""
        parts = zip(self.decoders, latent.split(self.latent_sizes, dim=2), strict=True)
        return torch.cat([decoder(part) for decoder, part in parts], dim=2)


class _Convolutions(nn.Module):
    """``(b, t, before)`` → ``(b, t, after)`` by three convolutions over three frames."""

    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(before, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.third = nn.Conv1d(width, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.first(x.transpose(1, 2)))
        y = y + F.silu(self.second(y))
        last: Tensor = self.third(y)
        return last.transpose(1, 2)
