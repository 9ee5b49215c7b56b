"""CosFace's 20-layer recogniser, by which face-swap papers retrieve identities (Wang et al. 2018).

In the key layout of MuggleWang/CosFace_pytorch; ReliableSwap and others give it 112-pixel faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from talkgen.checkpoints import load_published

DIM = 512
WIDTHS, BLOCKS = (64, 128, 256, 512), (1, 2, 4, 1)


class Block(nn.Module):
    """x + PReLU(conv(PReLU(conv(x)))), 3×3, without bias.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.prelu1 = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.prelu2 = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y: Tensor = self.prelu2(self.conv2(self.prelu1(self.conv1(x))))
        return x + y


class Sphere20(nn.Module):
    """Faces (b, 3, 112, 112), RGB in [-1, 1], aligned to the ArcFace template → (b, 512), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
            first = nn.Conv2d(channels, width, 3, stride=2, padding=1)
            layer = nn.Sequential(first, nn.PReLU(width), *(Block(width) for _ in range(blocks)))
            self.add_module(f"layer{number}", layer)
            channels = width
        self.fc = nn.Linear(WIDTHS[-1] * 7 * 7, DIM)

    def forward(self, faces: Tensor) -> Tensor:
        """See the class."""
        for number in range(1, len(WIDTHS) + 1):
            faces = self.get_submodule(f"layer{number}")(faces)
        vectors: Tensor = self.fc(faces.flatten(1))
        return vectors


def load_sphere20(source: str | Path | Mapping[str, Any]) -> Sphere20:
    """The network with its weights, in eval mode.

    Args:
        source: the published file, or its state dict.

    Raises:
        FileError: another network.
    """
    network = Sphere20()
    load_published(network, source)
    return network.eval().requires_grad_(False)
