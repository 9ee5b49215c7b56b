"""IResNet, the network of ArcFace, in the key layout of arcface_torch (deepinsight/insightface).

He et al. 2016 with the changes of Deng et al. 2019 (ArcFace, §3.1): a 3×3 stem without pooling,
pre-normalised blocks with PReLU, and a head of batch norm, dropout, linear, batch norm.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from talkgen.checkpoints import load_checkpoint, load_published
from talkgen.errors import FileError

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
"""Blocks of the four stages, by depth."""


def _conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-5)


class IBasicBlock(nn.Module):
    """x + norm(conv(prelu(norm(conv(norm(x)))))), with a projected x where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = _norm(channels_in)
        self.conv1 = _conv3x3(channels_in, channels_out)
        self.bn2 = _norm(channels_out)
        self.prelu = nn.PReLU(channels_out)
        self.conv2 = _conv3x3(channels_out, channels_out, stride)
        self.bn3 = _norm(channels_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), _norm(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels_in, h, w) → (b, channels_out, h / stride, w / stride)."""
        residual = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return residual + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """Face recogniser: (b, 3, 112, 112) RGB in [-1, 1] → (b, dim).

    Args:
        depth: 18, 34, 50 or 100.
        dim: length of the embedding.
        width: channels of the first stage; 64 as published.
    """

    def __init__(self, depth: int = 50, dim: int = 512, width: int = 64) -> None:
        super().__init__()
        self.conv1 = _conv3x3(3, width)
        self.bn1 = _norm(width)
        self.prelu = nn.PReLU(width)
        channels = width
        for stage, blocks in enumerate(BLOCKS[depth]):
            out = width * 2**stage
            layers = [
                IBasicBlock(channels if i == 0 else out, out, 2 if i == 0 else 1) for i in range(blocks)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            channels = out
        self.bn2 = _norm(channels)
        self.dropout = nn.Dropout(0.0)
        self.fc = nn.Linear(channels * 7 * 7, dim)
        self.features = nn.BatchNorm1d(dim, eps=1e-5)
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad_(False)  # arcface_torch keeps the scale of the embedding at 1

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, 112, 112) in [-1, 1] → (b, dim), not normalised."""
        x = self.prelu(self.bn1(self.conv1(images)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        x = self.dropout(self.bn2(x).flatten(1))
        return self.features(self.fc(x))


def load_iresnet(file: Path) -> IResNet:
    """An IResNet from a checkpoint of arcface_torch; depth and width are read off its keys.

    Raises:
        FileError: not readable, or not of this layout.
    """
    content = load_checkpoint(file)
    keys = {key.removeprefix("module.") for key in content}
    blocks = tuple(
        sum(key.startswith(f"layer{n}.") and key.endswith(".conv1.weight") for key in keys)
        for n in range(1, 5)
    )
    depth = next((depth for depth, counts in BLOCKS.items() if counts == blocks), None)
    if depth is None:
        raise FileError(file, f"is not an IResNet of arcface_torch (blocks per stage: {blocks})")
    stem = next(value for key, value in content.items() if key.removeprefix("module.") == "conv1.weight")
    fc = next(value for key, value in content.items() if key.removeprefix("module.") == "fc.weight")
    network = IResNet(depth, dim=fc.shape[0], width=stem.shape[0])
    load_published(network, file)
    return network
