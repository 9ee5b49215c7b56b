"""Perceptual distances between pictures: LPIPS, and a stand-in that needs no weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen import weights
from talkgen.errors import FileError
from talkgen.models.experts.array_pickle import read_arrays
from talkgen.models.frozen import Frozen

log = logging.getLogger(__name__)

# Layers of torchvision's `features`: a number is a convolution (channels, kernel, stride, padding), "M" a max
# pooling.
_ALEX: tuple[tuple[int, int, int, int] | Literal["M"], ...] = (
    (64, 11, 4, 2), "M", (192, 5, 1, 2), "M", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1),
)  # fmt: skip
_VGG: tuple[tuple[int, int, int, int] | Literal["M"], ...] = (
    *((64, 3, 1, 1),) * 2, "M", *((128, 3, 1, 1),) * 2, "M", *((256, 3, 1, 1),) * 3, "M",
    *((512, 3, 1, 1),) * 3, "M", *((512, 3, 1, 1),) * 3,
)  # fmt: skip
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # after these ReLUs of `features`
_CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def _features(net: Literal["alex", "vgg"]) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for layer in _ALEX if net == "alex" else _VGG:
        if layer == "M":
            layers.append(nn.MaxPool2d(3 if net == "alex" else 2, stride=2))
        else:
            out, kernel, stride, padding = layer
            layers += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU()]
            channels = out
    return nn.Sequential(*layers)


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity (Zhang et al. 2018, eq. 1), heads of version 0.1.

    d(x, y) = Σ_l mean_hw w_l · (φ̂_l(x) − φ̂_l(y))², where φ̂_l are the activations of layer l at unit
    length.

    Use ``alex`` to score and ``vgg`` to train; their values cannot be compared with each other.
    Keys: ``features.*`` as in torchvision, ``heads.l.weight`` (1, channels, 1, 1).

    Args:
        net: the backbone.
        state: keys → arrays, from `read_lpips_file`; None: the registry's file, which must be on this
            machine.

    Raises:
        MissingWeights: no file, and no ``state``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, net: Literal["alex", "vgg"] = "alex", state: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        if net not in _TAPS:
            raise ValueError(f"LPIPS has the nets alex and vgg, not {net}")
        self.taps = _TAPS[net]
        self.features = _features(net)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1, bias=False) for channels in _CHANNELS[net])
        # ImageNet's mean and deviation, for pictures in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1), persistent=False)
        self.load_state_dict(
            dict(state) if state is not None else read_lpips_file(weights.find(f"lpips_{net}"))
        )
        self.eval().requires_grad_(False)

    def activations(self, images: Tensor) -> list[Tensor]:
        """What :meth:`compare` takes: the layers of pictures (b, 3, h, w) in [-1, 1], at unit length."""
        x = (images - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                # vector_norm has gradient 0 at 0, where a plain square root would give NaN
                norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
                found.append(x / (norm + 1e-10))
        return found

    def layer_distances(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """The terms of the sum: (b, layers)."""
        of_generated = self.activations(generated)
        with torch.set_grad_enabled(torch.is_grad_enabled() and ground_truth.requires_grad):
            of_truth = self.activations(ground_truth)
        return self.compare(of_generated, of_truth)

    def compare(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """The terms of the sum (b, layers) for activations of two batches."""
        terms = [
            head((x - y) ** 2).mean(dim=(1, 2, 3))
            for head, x, y in zip(self.heads, first, second, strict=True)
        ]
        return torch.stack(terms, dim=1)

    def forward(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """Distance of each pair.

        Args:
            generated: (b, 3, h, w) in [-1, 1], RGB, sides of at least 32 pixels.
            ground_truth: the same shape.

        Returns:
            (b,), 0 for equal pictures.
        """
        return self.layer_distances(generated, ground_truth).sum(dim=1)


def read_lpips_file(file: Path) -> dict[str, Tensor]:
    """Weights of `LPIPS` from the registry's files, which hold flax's arrays (height, width, in, out).

    Raises:
        FileError: not such a file, or it holds anything but arrays.
    """
    content = read_arrays(file)
    try:
        backbone = next(content[name] for name in content if not name.startswith("NetLin"))
        state: dict[str, Tensor] = {}
        net: Literal["alex", "vgg"] = "alex" if len(backbone) == 5 else "vgg"
        convolutions = [i for i, layer in enumerate(_features(net)) if isinstance(layer, nn.Conv2d)]
        for place, index in enumerate(convolutions):
            layer = backbone[f"Conv_{place}"]
            state[f"features.{index}.weight"] = _to_torch(layer["kernel"])
            state[f"features.{index}.bias"] = torch.from_numpy(np.array(layer["bias"]))
        for place in range(5):
            state[f"heads.{place}.weight"] = _to_torch(content[f"NetLinLayer_{place}"]["Conv_0"]["kernel"])
    except (KeyError, StopIteration, TypeError) as error:
        raise FileError(file, f"is not one of the LPIPS files of the registry ({error})") from error
    return state


def random_weights(net: Literal["alex", "vgg"]) -> dict[str, Tensor]:
    """Untrained weights of ``LPIPS``, for measuring and testing what contains it where the file is absent."""
    state = {f"features.{key}": value for key, value in _features(net).state_dict().items()}
    for layer, channels in enumerate(_CHANNELS[net]):
        state[f"heads.{layer}.weight"] = torch.full((1, channels, 1, 1), 1 / channels)
    return state


def _to_torch(kernel: np.ndarray) -> Tensor:
    """(height, width, in, out) → (out, in, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(np.transpose(kernel, (3, 2, 0, 1))))


class GradientPyramidLoss(nn.Module):
    """Mean absolute difference of gradients over an image pyramid: a stand-in for LPIPS without weights.

    L = mean_l ( |∂x a_l − ∂x b_l| + |∂y a_l − ∂y b_l| ), a_l, b_l halved l times. It rewards edges in the
    right place at every scale, which L1 on pixels does little; it knows nothing of what people see, and its
    values are not LPIPS.

    Args:
        levels: of the pyramid; small pictures use fewer.
    """

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """(b, c, h, w) twice → (b,)."""
        difference = generated - ground_truth  # gradients and halving are linear
        terms = []
        for _ in range(self.levels):
            if min(difference.shape[-2:]) < 2:
                break
            horizontal = difference.diff(dim=-1).abs().mean(dim=(1, 2, 3))
            vertical = difference.diff(dim=-2).abs().mean(dim=(1, 2, 3))
            terms.append(horizontal + vertical)
            difference = F.avg_pool2d(difference, 2)
        return torch.stack(terms).mean(dim=0)


def perceptual_loss(net: Literal["alex", "vgg", "gradient_pyramid"]) -> Frozen | GradientPyramidLoss:
    """LPIPS, frozen, when its weights are on this machine; else the stand-in, and a line in the log says so.

    Both take (generated, ground_truth) in [-1, 1] and give one distance a pair, (b,). A training says
    ``gradient_pyramid`` where it takes the stand-in, so that a run does not change its loss when weights
    come or go.

    Args:
        net: of LPIPS; or ``gradient_pyramid``, the stand-in whether weights are there or not.
    """
    if net == "gradient_pyramid":
        return GradientPyramidLoss()
    name = f"lpips_{net}"
    if weights.available(name):
        return Frozen(LPIPS(net))
    log.warning(
        "LPIPS weights are absent, so the perceptual term is GradientPyramidLoss (`talkgen weights get %s`)",
        name,
    )
    return GradientPyramidLoss()
