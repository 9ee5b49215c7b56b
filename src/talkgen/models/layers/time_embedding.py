"""Diffusion time as a vector."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def sinusoidal_embedding(timestep: Shaped[Tensor, " b"], dim: int) -> Float[Tensor, "b dim"]:
    """cos(t ω_i), then sin(t ω_i), with ω_i = 10000^(−2i/dim) (guided-diffusion's order).

    Args:
        timestep: integers, or fractions between them.
        dim: even.
    """
    half = dim // 2
    frequencies = torch.exp(
        torch.arange(half, device=timestep.device, dtype=torch.float32) * (-math.log(10000) / half)
    )
    angles = timestep.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
