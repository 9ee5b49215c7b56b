"""PIRenderer's mapping net: motion coefficients around a frame to its motion descriptor."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

RADIUS = 13
"""Frames before and after a frame that its descriptor depends on."""

_POOLED = 3  # what is left of a window of 27 frames after all convolutions


class MappingNet(nn.Module):
    """Conv(7), three residual dilated Conv(3), mean over what is left (PIRenderer, section 3.1).

    No convolution pads, so a window of 27 frames gives one descriptor, and a clip with 13 more frames on
    either side gives one a frame: all at once, for the price of a seventh of window by window.

    Args:
        coefficients: of a frame.
        descriptor: dimensions of z.
        layers: residual convolutions; 3 as published, which the radius of 13 frames is made for.
    """

    def __init__(self, coefficients: int = 73, descriptor: int = 256, layers: int = 3) -> None:
        super().__init__()
        self.layers = layers
        self.first = nn.Sequential(nn.Conv1d(coefficients, descriptor, 7))
        for number in range(layers):
            block = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv1d(descriptor, descriptor, 3, dilation=3))
            setattr(self, f"encoder{number}", block)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):  # so that motion is not lost on its way through
                nn.init.kaiming_normal_(module.weight, nonlinearity="leaky_relu")

    def forward(self, coefficients: Tensor) -> Tensor:
        """``(b, coefficients, frames + 26)`` → descriptors ``(b, frames, descriptor)``."""
        x = self.first(coefficients)
        for number in range(self.layers):
            x = getattr(self, f"encoder{number}")(x) + x[..., 3:-3]
        return F.avg_pool1d(x, _POOLED, 1).mT
