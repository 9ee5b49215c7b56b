"""Attention along time, position by position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.cross_attention import CrossAttention


class TemporalAttention(nn.Module):
    """Every position of a frame looks at the same position of the other frames of its window.

    Frames know their place by sinusoids (Vaswani et al., 2017), so that windows may have any length. It
    begins as nothing (a zero last layer): a network that worked without it goes on to work.

    Args:
        channels: of the maps, even.
        heads: of the attention.

    Shapes: ``(b·t, c, h, w)``, t → the same.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = CrossAttention(channels, heads)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, x: Float[Tensor, "n c h w"], frames: int) -> Float[Tensor, "n c h w"]:
        """One window after the other, ``frames`` maps each."""
        height, width = x.shape[-2:]
        tokens = x.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2).flatten(0, 2)  # (b h w) t c
        normal = self.norm(tokens)
        normal = normal + time_position(frames, normal.shape[-1], device=x.device, dtype=normal.dtype)
        read = self.attention(normal, *self.attention.remember(normal))
        read = read.unflatten(0, (-1, height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        return x + read


def time_position(
    frames: int, channels: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "t c"]:
    """sin and cos of the frame's number at frequencies from 1 to 1/100."""
    rate = 100 ** -torch.linspace(0, 1, channels // 2, device=device)
    angle = torch.arange(frames, device=device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(dtype)
