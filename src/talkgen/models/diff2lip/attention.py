"""Multi-head self-attention over a feature map, in guided-diffusion's layout."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.diff2lip.normalisation import group_norm


class AttentionBlock(nn.Module):
    """Every position attends to every other; the result is added.

    Published rows of ``qkv`` are grouped by head: (q, k, v) of the first head, (q, k, v) of the second, ….
    Keys: ``norm qkv proj_out``; the two projections keep the published shape of a 1×1 ``Conv1d``.

    Args:
        channels: of the feature map.
        head_channels: of one head; a map with fewer channels has one head.

    Shapes: ``(b, c, h, w)`` → the same.
    """

    def __init__(self, channels: int, head_channels: int = 64) -> None:
        super().__init__()
        self.heads = max(1, channels // head_channels)
        if channels % self.heads:
            raise ValueError(f"{channels} channels cannot be split into heads of {head_channels}")
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """softmax(q kᵀ / √d) v of each head, fused."""
        b, c, h, w = x.shape
        # Positions before channels: a view where the map lies channels last, and what a fused kernel wants.
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = F.linear(tokens, self.qkv.weight[..., 0], self.qkv.bias)
        q, k, v = qkv.view(b, h * w, self.heads, 3, c // self.heads).permute(3, 0, 2, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        mixed = F.linear(mixed, self.proj_out.weight[..., 0], self.proj_out.bias)
        return x + mixed.transpose(1, 2).unflatten(2, (h, w))
