"""What a fifth of a second of speech sounds like: a mel window as a small feature map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.diff2lip.blocks import Conditioned, ResidualBlock
from talkgen.models.diff2lip.normalisation import group_norm
from talkgen.models.layers.time_embedding import sinusoidal_embedding

MULTIPLIERS = (1, 2, 3, 4)
STRIDES = ((2, 1), (2, 1), (2, 2))  # (bins, steps) between levels
ROWS = 64  # bins after the first convolution


class AudioEncoder(nn.Module):
    """Half a UNet over the mel window, taken as a one-channel picture of 64 rows.

    Published residual blocks take a time embedding; this encoder is always handed time 0, so that it adds a
    learned constant. Keys: ``time_embed.{0,2} input_block.{0,1} encoder_blocks.{0…11}.0 middle_block.0``.

    Args:
        channels: of the first level; 32 as published.
        mel_bins: height of a mel window.
        blocks: residual blocks a level.

    Shapes: ``(b, 1, mel_bins, steps)`` → ``(b, 4·channels, 8, steps / 2)``.
    """

    def __init__(self, channels: int = 32, mel_bins: int = 80, blocks: int = 2) -> None:
        super().__init__()
        self.channels = channels
        self.out_channels = MULTIPLIERS[-1] * channels
        self.time_embed = nn.Sequential(
            nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels)
        )
        self.input_block = nn.Sequential(
            nn.Conv1d(mel_bins, ROWS, 3, padding=1), group_norm(ROWS, smallest=1), nn.SiLU()
        )

        def block(channels_in: int, channels_out: int, down: tuple[int, int] | None = None) -> Conditioned:
            # Groups of one channel are published here, and harmless: what is added is a constant.
            return Conditioned(
                ResidualBlock(channels_in, channels_out, channels, down=down, smallest_group=1)
            )

        layers = [Conditioned(nn.Conv2d(1, channels, 3, padding=1))]
        width = channels
        for level, multiplier in enumerate(MULTIPLIERS):
            for _ in range(blocks):
                layers.append(block(width, multiplier * channels))
                width = multiplier * channels
            if level < len(STRIDES):
                layers.append(block(width, width, down=STRIDES[level]))
        self.encoder_blocks = nn.ModuleList(layers)
        self.middle_block = block(width, width)

    def forward(self, mel: Float[Tensor, "b 1 bins steps"]) -> Float[Tensor, "b c rows columns"]:
        """The map, before any activation."""
        start = mel.new_zeros(len(mel), dtype=torch.float32)
        embedding = self.time_embed(sinusoidal_embedding(start, self.channels).to(mel.dtype))
        x = self.input_block(mel.squeeze(1)).unsqueeze(1)
        for layer in self.encoder_blocks:
            x = layer(x, embedding)
        return self.middle_block(x, embedding)


class Style(nn.Sequential):
    """The map as one vector that is added to the time embedding: norm, SiLU, mean, linear from zero.

    Keys ``0`` and ``3``, as published.

    Args:
        channels: of the map.
        dim: of the vector.
        cells: (rows, columns) that the mean keeps apart. (1, 1) as published: *when* something is heard is
            then known only from what the encoder's padding tells of the borders, which takes long to learn.
    """

    def __init__(self, channels: int, dim: int, cells: tuple[int, int] = (1, 1)) -> None:
        last = nn.Conv2d(channels, dim, cells)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        super().__init__(
            group_norm(channels, smallest=1), nn.SiLU(), nn.AdaptiveAvgPool2d(cells), last, nn.Flatten()
        )
