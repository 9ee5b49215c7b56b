"""The perceptual and the style term of PIRenderer, on VGG features of an image pyramid."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkgen import weights
from talkgen.losses.perceptual import LPIPS, GradientPyramidLoss, read_lpips_file
from talkgen.models.frozen import Frozen

TAPS = (1, 6, 11, 18, 25)
"""relu1_1, relu2_1, … relu5_1 of VGG16's ``features``."""


class VGGPyramidLoss(nn.Module):
    """L = Σ_s Σ_l mean |φ_l(x_s) − φ_l(y_s)| + w Σ_l mean |G(φ_l(x)) − G(φ_l(y))|

    with x_s halved s times, φ_l VGG's activations relu1_1 … relu5_1 and G the Gram matrix over
    channels · rows · columns (Johnson et al. 2016; PIRenderer, equations 4 to 6). The authors take VGG19;
    here it is the VGG16 of LPIPS, whose layers up to relu3_1 are the same in kind.

    Args:
        style: w, 0 leaves the Gram matrices out (PIRenderer: 250).
        scales: sizes of the pyramid; small pictures use fewer.
        state: keys → arrays of LPIPS, see ``read_lpips_file``; None: the registry's file.

    Raises:
        MissingWeights: no file, and no ``state``.
    """

    def __init__(
        self, style: float = 0.0, scales: int = 4, state: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.style = style
        self.scales = scales
        network = LPIPS("vgg", state if state is not None else read_lpips_file(weights.find("lpips_vgg")))
        self.features = network.features[: TAPS[-1] + 1]
        self.register_buffer("shift", network.shift, persistent=False)
        self.register_buffer("scale", network.scale, persistent=False)
        self.eval().requires_grad_(False)

    shift: Tensor
    scale: Tensor

    def _activations(self, images: Tensor) -> list[Tensor]:
        x = (images - self.shift) / self.scale
        found = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPS:
                found.append(x)
        return found

    def forward(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """Pictures (b, 3, h, w) in [-1, 1], twice → (b,)."""
        total = generated.new_zeros(len(generated))
        for number in range(self.scales):
            if min(generated.shape[-2:]) < 16:  # of relu5_1 there would be nothing left
                break
            made = self._activations(generated)
            with torch.no_grad():
                wanted = self._activations(ground_truth)
            for x, y in zip(made, wanted, strict=True):
                total = total + (x - y).abs().mean(dim=(1, 2, 3))
                if self.style and number == 0:
                    total = total + self.style * (gram(x) - gram(y)).abs().mean(dim=(1, 2))
            generated, ground_truth = F.avg_pool2d(generated, 2), F.avg_pool2d(ground_truth, 2)
        return total


def gram(x: Tensor) -> Tensor:
    """Products of channels (b, c, c), over all places, by channels · rows · columns."""
    flat = x.flatten(2)
    return flat @ flat.mT / (x.shape[1] * flat.shape[2])


def renderer_perceptual(net: str, style: float = 0.0) -> nn.Module:
    """The term that a renderer is trained with; frozen.

    Args:
        net: ``vgg`` for ``VGGPyramidLoss``; ``alex`` for LPIPS; ``gradient_pyramid`` for the stand-in that
            needs no weights. Where weights are absent it is the stand-in, too, and a run records so.
        style: see ``VGGPyramidLoss``.

    Raises:
        ValueError: another net.
    """
    if net not in ("vgg", "alex", "gradient_pyramid"):
        raise ValueError(f"net is vgg, alex or gradient_pyramid, not {net}")
    if net == "gradient_pyramid" or not weights.available(f"lpips_{net}"):
        return GradientPyramidLoss()
    return Frozen(VGGPyramidLoss(style) if net == "vgg" else LPIPS("alex"))
