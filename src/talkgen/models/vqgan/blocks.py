"""What VQGAN's encoder and decoder share: levels, the middle, and recomputation of activations."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from talkgen.models.layers.attention import SpatialAttention
from talkgen.models.layers.resampling import Downsample, Upsample
from talkgen.models.layers.residual import ResidualBlock


class Level(nn.Module):
    """Residual blocks (with attention after each, if asked for) at one resolution, then a change of it.

    Keys are the published ones: ``block attn downsample upsample``.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        blocks: int,
        attention: bool = False,
        dropout: float = 0.0,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels] * blocks
        self.block = nn.ModuleList(ResidualBlock(a, b, dropout) for a, b in pairwise(widths))
        self.attn = nn.ModuleList(SpatialAttention(channels) for _ in range(blocks if attention else 0))
        self.downsample = Downsample(channels) if downsample else None
        self.upsample = Upsample(channels) if upsample else None

    def forward(self, x: Tensor, checkpointing: bool = False) -> Tensor:
        """``(b, channels_in, h, w)`` → ``(b, channels, h', w')``."""
        for j, block in enumerate(self.block):
            x = run(block, x, checkpointing)
            if self.attn:
                x = run(self.attn[j], x, checkpointing)
        if self.downsample is not None:
            x = self.downsample(x)
        return x if self.upsample is None else self.upsample(x)


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, dropout)
        self.attn_1 = SpatialAttention(channels)
        self.block_2 = ResidualBlock(channels, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, h, w)`` → the same."""
        return self.block_2(self.attn_1(self.block_1(x)))


def run(module: nn.Module, x: Tensor, checkpointing: bool) -> Tensor:
    """Call a module, without keeping its activations where they can be recomputed."""
    if checkpointing and module.training and x.requires_grad:
        return checkpoint(module, x, use_reentrant=False)
    return module(x)
