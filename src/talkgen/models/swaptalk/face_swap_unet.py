"""Backbone "UNet" of the face-swapping module: convolutions on the target, attention to the source."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.cross_attention import CrossAttention
from talkgen.models.layers.grid_position import GridPosition
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.layers.residual import ResidualBlock, group_norm
from talkgen.models.swaptalk.swapper import SourceMemory


class FaceSwapUNet(nn.Module):
    """Down and up again with skip connections; every level reads, by cross-attention, from the same level of
    a convolutional encoding of the source.

    Maps of odd size are halved with rounding up and grow back to the size of the skip connection.

    Args:
        dim: channels of a latent.
        width: channels at full resolution.
        multipliers: one factor on it a level.
        blocks: residual blocks a level, each followed by cross-attention.
        heads: of the attention.
        grid: rows and columns of the learned positions; other maps resample them.
        residual: see ``FaceSwap``.
    """

    def __init__(
        self,
        dim: int,
        width: int = 256,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        heads: int = 8,
        grid: Sequence[int] = (20, 20),
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.residual = residual
        self.scale = LatentScale(dim)
        widths = [width * factor for factor in multipliers]
        self.conv_in = nn.Conv2d(dim, width, 3, padding=1)
        self.position = GridPosition(width, grid)
        self.source_in = nn.Conv2d(dim, width, 3, padding=1)
        self.source_position = GridPosition(width, grid)
        self.source_levels = nn.ModuleList()
        self.down, self.up, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = width
        for channels in widths:
            self.source_levels.append(ResidualBlock(before, channels))
            self.down.append(ReadingLevel(before, channels, channels, blocks, heads))
            before = channels
        for level in reversed(range(len(widths) - 1)):
            self.merge.append(nn.Conv2d(before + widths[level], widths[level], 1))
            self.up.append(ReadingLevel(widths[level], widths[level], widths[level], blocks, heads))
            before = widths[level]
        self.norm = group_norm(width)
        self.conv_out = nn.Conv2d(width, dim, 3, padding=1)
        if residual:
            nn.init.zeros_(self.conv_out.weight)
            nn.init.zeros_(torch.as_tensor(self.conv_out.bias))

    def forward(
        self, target: Float[Tensor, "b d h w"], source: Float[Tensor, "b d h w"]
    ) -> Float[Tensor, "b d h w"]:
        """T_VQ, S_VQ → T̂_VQ; the maps may have different sizes."""
        return self.swap(target, self.source_memory(source))

    def source_memory(self, source: Float[Tensor, "b d h w"]) -> SourceMemory:
        """Keys and values of every attention, on the way down and then on the way up."""
        x = self.source_in(self.scale.normalise(source)) + self.source_position(*source.shape[-2:])
        tokens = []
        for i, block in enumerate(self.source_levels):
            x = block(x if i == 0 else F.avg_pool2d(x, 2, ceil_mode=True))
            tokens.append(x.flatten(2).transpose(1, 2))
        levels = [*zip(self.down, tokens, strict=True), *zip(self.up, tokens[-2::-1], strict=True)]
        return SourceMemory(tuple(kv for level, memory in levels for kv in level.remember(memory)))  # type: ignore[operator]

    def swap(self, target: Float[Tensor, "b d h w"], memory: SourceMemory) -> Float[Tensor, "b d h w"]:
        """Swapped latents of targets; ``memory`` is of as many sources, or of one for all of them."""
        normal = self.scale.normalise(target)
        kept = list(memory.expand(len(target)).tensors)
        x = self.conv_in(normal) + self.position(*target.shape[-2:])
        skips = []
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else F.avg_pool2d(x, 2, ceil_mode=True), kept)
            skips.append(x)
        skips.pop()
        for level, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            x = F.interpolate(x, skip.shape[-2:], mode="nearest")
            x = level(merge(torch.cat([x, skip], dim=1)), kept)
        change = self.conv_out(F.silu(self.norm(x)))
        return self.scale.restore(normal + change if self.residual else change)


class ReadingLevel(nn.Module):
    """Residual blocks at one resolution, each followed by cross-attention to the source.

    Args:
        channels_in: channels of what comes in.
        channels: of what goes out.
        memory_channels: of the source's map at this level.
        blocks: how many.
        heads: of the attention.
    """

    def __init__(
        self, channels_in: int, channels: int, memory_channels: int, blocks: int, heads: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(channels_in if i == 0 else channels, channels) for i in range(blocks)
        )
        self.norms = nn.ModuleList(group_norm(channels) for _ in range(blocks))
        self.attention = nn.ModuleList(
            CrossAttention(channels, heads, memory_channels) for _ in range(blocks)
        )

    def remember(self, memory: Float[Tensor, "b m c"]) -> list[Tensor]:
        """Keys and values of each attention."""
        return [kv for attention in self.attention for kv in attention.remember(memory)]  # type: ignore[operator]

    def forward(self, x: Float[Tensor, "b c h w"], memory: list[Tensor]) -> Tensor:
        """One level; takes its keys and values from the front of ``memory``."""
        for block, norm, attention in zip(self.blocks, self.norms, self.attention, strict=True):
            x = block(x)
            tokens = norm(x).flatten(2).transpose(1, 2)
            read = attention(tokens, memory.pop(0), memory.pop(0))
            x = x + read.transpose(1, 2).unflatten(2, x.shape[2:])
        return x
