"""VQGAN's encoder: image to latent map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from talkgen.models.layers.residual import group_norm
from talkgen.models.vqgan.blocks import Level, Middle, run


class Encoder(nn.Module):
    """Convolutional encoder of "Taming Transformers" (Esser et al., 2021), in its key layout.

    Args:
        channels: width at full resolution.
        multipliers: one factor on ``channels`` a level; the map is halved between levels, so five levels make
            f16 and four make f8.
        blocks: residual blocks a level.
        attention_levels: levels with self-attention after each block (0 is full resolution). Levels, not
            pixels, so that another image size cannot make attention vanish.
        latent_channels: channels of the result.
        in_channels: channels of the image.
        dropout: inside the residual blocks.
        checkpointing: recompute activations in the backward pass (about a third more time, far less memory).
        patch: squares of this many pixels become channels first (1 as published): full resolution, where
            most of the price is paid, is left out, and the factor grows by it.

    Shapes: ``(b, in_channels, h, w)`` → ``(b, latent_channels, h/factor, w/factor)``.
    """

    def __init__(
        self,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        attention_levels: Sequence[int] = (4,),
        latent_channels: int = 256,
        in_channels: int = 3,
        dropout: float = 0.0,
        checkpointing: bool = False,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.factor = patch * 2 ** (len(multipliers) - 1)
        self.latent_channels = latent_channels
        self.checkpointing = checkpointing
        self.conv_in = nn.Conv2d(in_channels * patch**2, channels, 3, padding=1)
        self.down = nn.ModuleList()
        width = channels
        for i, multiplier in enumerate(multipliers):
            attention, halve = i in attention_levels, i < len(multipliers) - 1
            self.down.append(
                Level(width, channels * multiplier, blocks, attention, dropout, downsample=halve)
            )
            width = channels * multiplier
        self.mid = Middle(width, dropout)
        self.norm_out = group_norm(width)
        self.conv_out = nn.Conv2d(width, latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode an image in [-1, 1]."""
        x = self.conv_in(F.pixel_unshuffle(x, self.patch))
        for level in self.down:
            x = level(x, self.checkpointing)
        x = run(self.mid, x, self.checkpointing)
        return self.conv_out(F.silu(self.norm_out(x)))
