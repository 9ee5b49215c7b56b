"""Wav2Lip's generator (Prajwal et al. 2020), the baseline of many tables, in its published key layout.

``load_published("wav2lip", "wav2lip_gan.pth")`` is strict. It is here for checkpoints that exist; talkgen
does not train it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen.models.experts.syncnet import ConvBlock

SIZE = 96
"""Width and height of its faces."""

# Channels in, then a convolution a line: channels out, kernel, stride, padding, residual.
_Lines = tuple[tuple[int, int | tuple[int, int], int | tuple[int, int], int, bool], ...]


def _same(channels: int, count: int) -> _Lines:
    return ((channels, 3, 1, 1, True),) * count


FACE_LINES: tuple[_Lines, ...] = (
    ((16, 7, 1, 3, False),),
    ((32, 3, 2, 1, False), *_same(32, 2)),
    ((64, 3, 2, 1, False), *_same(64, 3)),
    ((128, 3, 2, 1, False), *_same(128, 2)),
    ((256, 3, 2, 1, False), *_same(256, 2)),
    ((512, 3, 2, 1, False), *_same(512, 1)),
    ((512, 3, 1, 0, False), (512, 1, 1, 0, False)),
)
AUDIO_LINES: _Lines = (
    (32, 3, 1, 1, False), *_same(32, 2),
    (64, 3, (3, 1), 1, False), *_same(64, 2),
    (128, 3, 3, 1, False), *_same(128, 2),
    (256, 3, (3, 2), 1, False), *_same(256, 1),
    (512, 3, 1, 0, False), (512, 1, 1, 0, False),
)  # fmt: skip
DECODER = (
    (1024, 512, 1, 1),
    (1024, 512, 2, 2),
    (768, 384, 2, 2),
    (512, 256, 2, 2),
    (320, 128, 2, 2),
    (160, 64, 2, 2),
)
"""Channels in and out of each transposed convolution, its stride, and how many residual blocks follow."""


class UpBlock(nn.Module):
    """Transposed convolution, batch norm, ReLU; keys ``conv_block.0`` and ``conv_block.1``.

    Args:
        channels_in, channels: of the pictures.
        stride: 2 doubles the sides; 1 makes 3×3 of the first pixel.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        padding, more = (1, 1) if stride == 2 else (0, 0)
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(channels_in, channels, 3, stride, padding, more), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) → (b, c', h', w')."""
        return F.relu(self.conv_block(x))


def _chain(channels: int, lines: _Lines) -> nn.Sequential:
    blocks = []
    for line in lines:
        blocks.append(ConvBlock(channels, line))
        channels = line[0]
    return nn.Sequential(*blocks)


class Wav2Lip(nn.Module):
    """A face whose lips say what is heard."""

    def __init__(self) -> None:
        super().__init__()
        widths = [6, *(lines[-1][0] for lines in FACE_LINES)]
        self.face_encoder_blocks = nn.ModuleList(
            _chain(width, lines) for width, lines in zip(widths, FACE_LINES, strict=False)
        )
        self.audio_encoder = _chain(1, AUDIO_LINES)
        first = _chain(512, ((512, 1, 1, 0, False),))
        later = (
            nn.Sequential(UpBlock(wide, narrow, stride), *_chain(narrow, _same(narrow, blocks)))
            for wide, narrow, stride, blocks in DECODER
        )
        self.face_decoder_blocks = nn.ModuleList([first, *later])
        self.output_block = nn.Sequential(
            ConvBlock(80, (32, 3, 1, 1, False)), nn.Conv2d(32, 3, 1), nn.Sigmoid()
        )

    def forward(self, mel: Tensor, faces: Tensor) -> Tensor:
        """Pictures in [0, 1].

        Args:
            mel: what each frame hears (b, 1, 80, 16).
            faces: (b, 6, 96, 96) in [0, 1], BGR: the face with its lower half black, then a reference.

        Returns:
            (b, 3, 96, 96), BGR.
        """
        seen, x = [], faces
        for block in self.face_encoder_blocks:
            x = block(x)
            seen.append(x)
        x = self.audio_encoder(mel)
        for block in self.face_decoder_blocks:
            x = torch.cat([block(x), seen.pop()], 1)
        made: Tensor = self.output_block(x)
        return made
