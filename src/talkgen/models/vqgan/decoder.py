"""VQGAN's decoder: latent map to image."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from talkgen.models.layers.residual import group_norm
from talkgen.models.vqgan.blocks import Level, Middle, run


class Decoder(nn.Module):
    """Convolutional decoder of "Taming Transformers" (Esser et al., 2021), in its key layout.

    Args:
        channels: width at full resolution; most of the price is paid there (46 % of f16's FLOPs).
        multipliers: one factor on ``channels`` a level, full resolution first.
        blocks: residual blocks a level; the decoder has one more, as published.
        attention_levels: levels with self-attention after each block (0 is full resolution).
        latent_channels: channels that come in.
        out_channels: channels of the image.
        dropout: inside the residual blocks.
        checkpointing: recompute activations in the backward pass.
        patch: see ``Encoder``.

    Shapes: ``(b, latent_channels, h, w)`` → ``(b, out_channels, factor·h, factor·w)``.
    """

    def __init__(
        self,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        attention_levels: Sequence[int] = (4,),
        latent_channels: int = 256,
        out_channels: int = 3,
        dropout: float = 0.0,
        checkpointing: bool = False,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.factor = patch * 2 ** (len(multipliers) - 1)
        self.latent_channels = latent_channels
        self.checkpointing = checkpointing
        width = channels * multipliers[-1]
        self.conv_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.mid = Middle(width, dropout)
        levels = []
        for i, multiplier in reversed(list(enumerate(multipliers))):
            attention = i in attention_levels
            levels.append(Level(width, channels * multiplier, blocks + 1, attention, dropout, upsample=i > 0))
            width = channels * multiplier
        self.up = nn.ModuleList(reversed(levels))  # up.0 is full resolution, run last
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv2d(width, out_channels * patch**2, 3, padding=1)
        if patch > 1:  # every pixel of a square begins alike (ICNR), else squares show as a checkerboard
            for tensor in self.conv_out.parameters():
                tensor.data = tensor.data[:: patch**2].repeat_interleave(patch**2, dim=0)

    def forward(self, z: Tensor) -> Tensor:
        """Decode a latent; the image is not clamped to [-1, 1]."""
        x = run(self.mid, self.conv_in(z), self.checkpointing)
        for level in reversed(list(self.up)):
            x = level(x, self.checkpointing)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.patch)
