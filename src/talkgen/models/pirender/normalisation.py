"""Normalisations of PIRenderer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 128
"""Units between a descriptor and its scales and shifts."""


class AdaIN(nn.Module):
    """(1 + γ(z)) · (x − μ(x)) / σ(x) + β(z), mean and deviation over each channel of each picture.

    Huang & Belongie 2017, with γ and β from the motion descriptor z (PIRenderer, section 3.2).

    Args:
        channels: of x.
        descriptor: dimensions of z.
    """

    def __init__(self, channels: int, descriptor: int) -> None:
        super().__init__()
        first = nn.Linear(descriptor, HIDDEN)
        self.mlp_shared = nn.Sequential(first, nn.ReLU())
        self.mlp_gamma = nn.Linear(HIDDEN, channels)
        self.mlp_beta = nn.Linear(HIDDEN, channels)
        # As PyTorch begins by itself, the descriptor would move scales and shifts by a few hundredths.
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        for layer in (self.mlp_gamma, self.mlp_beta):
            nn.init.normal_(layer.weight, 0, 0.5 * HIDDEN**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        """``(b, channels, h, w)`` and ``(b, descriptor)`` → ``(b, channels, h, w)``."""
        hidden = self.mlp_shared(descriptor)
        gamma, beta = self.mlp_gamma(hidden)[..., None, None], self.mlp_beta(hidden)[..., None, None]
        return torch.addcmul(beta, F.instance_norm(x), 1 + gamma)


class PictureNorm(nn.Module):
    """Layer normalisation over channels, rows and columns together; scale and shift of each channel.

    What one part of a picture becomes depends on all of it, so a picture cannot be made in tiles.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(b, channels, h, w)``, the same shape."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[1:]), self.weight)
