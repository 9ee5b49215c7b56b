"""Self-attention over the positions of a feature map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from talkgen.models.layers.residual import group_norm


class SpatialAttention(nn.Module):
    """Single-head attention of every position to every other, with a residual.

    Keys are taming-transformers': ``norm q k v proj_out``, all 1×1 convolutions.

    Shapes: ``(b, c, h, w)`` → the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """softmax(q·kᵀ / √c)·v, fused."""
        b, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (project(y).flatten(2).transpose(1, 2).unsqueeze(1) for project in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)  # b 1 hw c
        return x + self.proj_out(y.squeeze(1).transpose(1, 2).reshape(b, c, h, w))
