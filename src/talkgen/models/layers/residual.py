"""Residual convolution block of the VQGAN and latent-diffusion family."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm as published (32 groups, ε 1e-6); fewer groups where 32 does not divide the channels."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """``x + conv(silu(norm(conv(silu(norm(x))))))``; a 1×1 shortcut where the channels change.

    Keys are taming-transformers': ``norm1 conv1 norm2 conv2 nin_shortcut``.

    Shapes: ``(b, channels_in, h, w)`` → ``(b, channels, h, w)``.
    """

    def __init__(self, channels_in: int, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm2 = group_norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        if channels_in != channels:
            self.nin_shortcut = nn.Conv2d(channels_in, channels, 1)
        self.has_shortcut = channels_in != channels

    def forward(self, x: Tensor) -> Tensor:
        """One block."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(self.dropout(F.silu(self.norm2(y))))
        return (self.nin_shortcut(x) if self.has_shortcut else x) + y
