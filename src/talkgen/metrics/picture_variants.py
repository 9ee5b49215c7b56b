"""What other programs call SSIM and PSNR: for reading old tables, not for making new ones.

The same pair of 512-pixel pictures has an SSIM between 0.65 and 0.88 by these definitions, and one of the
PSNRs gives 28 dB to pictures that have nothing in common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage
from talkgen.metrics.psnr import CAP_DB
from talkgen.metrics.ssim import Window, ssim_map

Variant = Callable[[Tensor, Tensor], Tensor]
"""uint8 RGB (t, h, w, 3) generated and true → float64 (t,)."""


def opencv_grey(frames: Tensor) -> Tensor:
    """uint8 RGB (t, h, w, 3) → uint8 (t, h, w, 1) by OpenCV's weights and rounding."""
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in frames.numpy()]
    return torch.from_numpy(np.stack(grey))[..., None]


def grey_ssim(generated: Tensor, ground_truth: Tensor, window: Window = "uniform7") -> Tensor:
    """SSIM of grey pictures: 0.1 above that of colours where the damage is noise."""
    pair = opencv_grey(generated), opencv_grey(ground_truth)
    return ssim_map(*pair, window).mean((1, 2))


def wang_grey_ssim(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """The same with Wang's window."""
    return grey_ssim(generated, ground_truth, "gaussian11")


def piq_ssim(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """piq's default (also IQA toolkits after Wang's own script): shrunk to about 256 pixels first."""
    factor = max(1, round(min(generated.shape[1:3]) / 256))
    small = [
        F.avg_pool2d(frames.permute(0, 3, 1, 2).double(), factor).permute(0, 2, 3, 1)
        for frames in (generated, ground_truth)
    ]
    return ssim_map(small[0], small[1]).mean((1, 2))


def torchmetrics_ssim(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """torchmetrics with ``data_range`` 1: the border is mirrored and counts."""
    return _torchmetrics(generated, ground_truth, 255.0)


def torchmetrics_ssim_by_batch(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """torchmetrics without ``data_range``: the range is what the pictures happen to span, here each pair."""
    values = []
    for x, y in zip(generated.split(1), ground_truth.split(1), strict=True):
        spans = [int(v.max()) - int(v.min()) for v in (x, y)]
        values.append(_torchmetrics(x, y, float(max(spans))))
    return torch.cat(values)


def _torchmetrics(generated: Tensor, ground_truth: Tensor, data_range: float) -> Tensor:
    padded = [
        F.pad(frames.permute(0, 3, 1, 2).double(), (5, 5, 5, 5), mode="reflect").permute(0, 2, 3, 1)
        * (255 / data_range)
        for frames in (generated, ground_truth)
    ]
    return ssim_map(padded[0], padded[1]).mean((1, 2))


def double_range_ssim(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """scikit-image before 0.19 on pictures in [0, 1], whose range it took for 2."""
    return ssim_map(generated.double() / 2, ground_truth.double() / 2, "uniform7").mean((1, 2))


def grey_psnr(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """PSNR of grey pictures, in dB."""
    difference = opencv_grey(generated).double() - opencv_grey(ground_truth).double()
    return _decibels(difference.square())


def wrapped_psnr(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """PSNR of ATVGnet's script, in dB: differences and squares of bytes wrap around at 256."""
    difference = opencv_grey(generated) - opencv_grey(ground_truth)
    return _decibels((difference * difference).double())


def _decibels(squared: Tensor) -> Tensor:
    return (10 * torch.log10(255.0**2 / squared.flatten(1).mean(1))).clamp(max=CAP_DB)


VARIANTS: Mapping[str, Variant] = {
    "SSIM[skimage,grey]": grey_ssim,
    "SSIM[wang,grey]": wang_grey_ssim,
    "SSIM[piq]": piq_ssim,
    "SSIM[torchmetrics]": torchmetrics_ssim,
    "SSIM[torchmetrics,range of pair]": torchmetrics_ssim_by_batch,
    "SSIM[skimage,range 2]": double_range_ssim,
    "PSNR[grey]": grey_psnr,
    "PSNR[atvgnet,bytes wrap]": wrapped_psnr,
}
"""Column → definition."""


class PictureVariant(ClipMetric):
    """One of :data:`VARIANTS` on full frames.

    Args:
        name: a key, which is the column's name.
    """

    higher_is_better = True
    needs = frozenset({"truth"})

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in VARIANTS:
            raise ValueError(f"no variant {name!r}; there are {'; '.join(VARIANTS)}")
        self.column = name

    def frame_values(self, footage: Footage) -> Tensor:
        """One value a frame."""
        return VARIANTS[self.column](footage.generated, footage.ground_truth)
