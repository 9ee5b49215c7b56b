"""The Inception network of FID (Heusel et al. 2017): TensorFlow's of 2015-12-05, in pytorch-fid's key layout.

Szegedy et al. 2016, "Rethinking the Inception Architecture", with three departures of that snapshot: average
pools do not count the border, the last block pools by maximum, and batch norm has ε 0.001. torchvision's
network with the same weights gives other features (13 % off).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from talkgen import weights
from talkgen.checkpoints import Layout, load_published
from talkgen.errors import FileError
from talkgen.models.experts.torchscript_import import read_torchscript

SIZE = 299
"""Width and height of what the network sees."""
DIM = 2048
"""Length of the features that FID compares."""

Resize = Literal["pytorch-fid", "clean-fid", "torch-fidelity"]


class BasicConv2d(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels_in, h, w) → (b, channels, h', w')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)

    def fuse(self) -> None:
        """Take batch norm into the convolution; the network then no longer has the published keys."""
        assert isinstance(self.bn, nn.BatchNorm2d)
        self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()


def _pool(x: Tensor, kind: str = "average") -> Tensor:
    """3×3 at stride 1. The average is over pixels of the picture alone, as TensorFlow has it."""
    if kind == "max":
        return F.max_pool2d(x, 3, 1, 1)
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class InceptionA(nn.Module):
    """35×35: 1×1 | 5×5 | two 3×3 | pool."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(channels, 64, 1)
        self.branch5x5_1 = BasicConv2d(channels, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(channels, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) → (b, 224 + pool, h, w)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branches = [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double]
        return torch.cat([*branches, self.branch_pool(_pool(x))], 1)


class InceptionB(nn.Module):
    """35×35 → 17×17: 3×3 | two 3×3 | pool."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) → (b, 480 + channels, h / 2, w / 2)."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class InceptionC(nn.Module):
    """17×17: 1×1 | 7×7 as 1×7 and 7×1 | the same twice | pool."""

    def __init__(self, width: int) -> None:
        super().__init__()
        across, down = (1, 7), (7, 1)
        self.branch1x1 = BasicConv2d(768, 192, 1)
        self.branch7x7_1 = BasicConv2d(768, width, 1)
        self.branch7x7_2 = BasicConv2d(width, width, across, padding=(0, 3))
        self.branch7x7_3 = BasicConv2d(width, 192, down, padding=(3, 0))
        self.branch7x7dbl_1 = BasicConv2d(768, width, 1)
        self.branch7x7dbl_2 = BasicConv2d(width, width, down, padding=(3, 0))
        self.branch7x7dbl_3 = BasicConv2d(width, width, across, padding=(0, 3))
        self.branch7x7dbl_4 = BasicConv2d(width, width, down, padding=(3, 0))
        self.branch7x7dbl_5 = BasicConv2d(width, 192, across, padding=(0, 3))
        self.branch_pool = BasicConv2d(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 768, h, w) → the same shape."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_pool(x))], 1)


class InceptionD(nn.Module):
    """17×17 → 8×8: 3×3 | 7×7 then 3×3 | pool."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(768, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(768, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 768, h, w) → (b, 1280, h / 2, w / 2)."""
        seven = self.branch7x7x3_2(self.branch7x7x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class InceptionE(nn.Module):
    """8×8: 1×1 | 3×3 split into 1×3 and 3×1 | the same after another 3×3 | pool."""

    def __init__(self, channels: int, pool: str) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = BasicConv2d(channels, 320, 1)
        self.branch3x3_1 = BasicConv2d(channels, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(channels, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) → (b, 2048, h, w)."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        split = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        split += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([self.branch1x1(x), *split, self.branch_pool(_pool(x, self.pool))], 1)


class FIDInception(nn.Module):
    """Pictures → the 2048 numbers whose distribution FID compares.

    Keys are those of pytorch-fid's network without the classifier ``fc``, which FID does not use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(128)
        self.Mixed_6c = InceptionC(160)
        self.Mixed_6d = InceptionC(160)
        self.Mixed_6e = InceptionC(192)
        self.Mixed_7a = InceptionD()
        self.Mixed_7b = InceptionE(1280, "average")
        self.Mixed_7c = InceptionE(2048, "max")

    def stages(self, images: Tensor) -> list[Tensor]:
        """Maps after pytorch-fid's four blocks: 64, 192, 768 and 2048 channels.

        Args:
            images: (b, 3, 299, 299) in [-1, 1], from :func:`network_input`.
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        first = F.max_pool2d(x, 3, 2)
        second = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(first)), 3, 2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(second))))
        third = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        return [first, second, third, self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(third)))]

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, 299, 299) in [-1, 1] → (b, 2048)."""
        return self.stages(images)[-1].mean((2, 3))

    def fuse(self) -> FIDInception:
        """Take every batch norm into its convolution: the same features, a little faster."""
        for module in self.modules():
            if isinstance(module, BasicConv2d):
                module.fuse()
        return self


def network_input(frames: Tensor, resize: Resize = "pytorch-fid") -> Tensor:
    """uint8 RGB (t, h, w, 3) → float32 (t, 3, 299, 299) as one of the published programs makes it.

    * ``pytorch-fid``: bilinear between pixel centres, no smoothing before shrinking, x / 127.5 − 1.
    * ``clean-fid``: PIL's bicubic, which smooths before shrinking, cut to 0..255, (x − 128) / 128.
    * ``torch-fidelity`` (and torchmetrics): TensorFlow 1's bilinear, whose pixel 0 maps to pixel 0,
      (x − 128) / 128.
    """
    x = frames.permute(0, 3, 1, 2).float()
    if resize == "pytorch-fid":
        return F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False) / 127.5 - 1
    if resize == "clean-fid":
        x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)
        return (x.clamp(0, 255) - 128) / 128
    for axis in (2, 3):
        x = _tensorflow_bilinear(x, axis)
    return (x - 128) / 128


def _tensorflow_bilinear(x: Tensor, axis: int) -> Tensor:
    """Resize one axis to 299: output pixel i lies at i · (length / 299)."""
    length = x.shape[axis]
    places = torch.arange(SIZE, dtype=torch.float32, device=x.device) * (length / SIZE)
    low = places.long()
    high = (low + 1).clamp(max=length - 1)
    shape = [1] * x.ndim
    shape[axis] = SIZE
    below = x.index_select(axis, low)
    return below + (x.index_select(axis, high) - below) * (places - low).view(shape)


def load_fid_inception(
    source: str | Path | Mapping[str, Tensor] = "fid_inception", fuse: bool = True
) -> FIDInception:
    """The network with its weights, in eval mode.

    Args:
        source: a name of the registry (``fid_inception`` or ``fid_inception_official``, the same weights),
            a file of either layout, or a state dict of pytorch-fid's keys.
        fuse: take batch norms into convolutions.

    Raises:
        MissingWeights: the registry's file is not on this machine.
        FileError: not such a file.
    """
    network = FIDInception()
    if isinstance(source, Mapping):
        load_published(network, source, Layout(drop=("fc.",)))
    else:
        file = weights.find(str(source)) if str(source) in weights.REGISTRY else Path(source)
        if file.suffix == ".pt":
            load_published(network, _from_torchscript(network, file), name=file)
        else:
            load_published(network, file, Layout(drop=("fc.",)))
    network.eval().requires_grad_(False)
    return (network.fuse() if fuse else network).to(memory_format=torch.channels_last)


def available_name() -> str:
    """Which of the registry's two files of these weights is on this machine; the first if none is."""
    names = ("fid_inception", "fid_inception_official")
    return next((name for name in names if weights.available(name)), names[0])


def _from_torchscript(network: FIDInception, file: Path) -> dict[str, Tensor]:
    """pytorch-fid's keys for NVIDIA's TorchScript copy of the network.

    It names the convolutions as TensorFlow did, in the same order; batch norm there has no scale.
    """
    tensors = read_torchscript(file)
    theirs = [key.removesuffix(".weight") for key, value in tensors.items() if value.ndim == 4]
    ours = [name for name, module in network.named_modules() if isinstance(module, BasicConv2d)]
    if len(theirs) != len(ours):
        raise FileError(file, f"has {len(theirs)} convolutions, the Inception of FID has {len(ours)}")
    state = {}
    for there, here in zip(theirs, ours, strict=True):
        state[f"{here}.conv.weight"] = tensors[f"{there}.weight"]
        state[f"{here}.bn.weight"] = torch.ones_like(tensors[f"{there}.beta"])
        state[f"{here}.bn.bias"] = tensors[f"{there}.beta"]
        state[f"{here}.bn.running_mean"] = tensors[f"{there}.mean"]
        state[f"{here}.bn.running_var"] = tensors[f"{there}.var"]
    return state
