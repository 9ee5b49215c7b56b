"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004)."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage, Region
from talkgen.metrics.shared_features import SharedFeatures

Window = Literal["gaussian11", "uniform7"]


def window_weights(window: Window) -> Tensor:
    """One side of the separable window, float64, sum 1: gaussian σ 1.5 over 11 pixels, or 7 equal weights."""
    if window == "uniform7":
        return torch.full((7,), 1 / 7, dtype=torch.float64)
    x = torch.arange(11, dtype=torch.float64) - 5
    weights = torch.exp(-0.5 * (x / 1.5) ** 2)
    return weights / weights.sum()


def ssim_map(generated: Tensor, ground_truth: Tensor, window: Window = "gaussian11") -> Tensor:
    """SSIM of every window, mean over the RGB channels (Wang et al., equation 13; K₁ 0.01, K₂ 0.03, L 255).

    Args:
        generated: uint8 (t, h, w, 3).
        ground_truth: uint8 (t, h, w, 3).
        window: ``"gaussian11"`` with population covariance is Wang's and skimage's
            ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``; ``"uniform7"`` with sample
            covariance is skimage's default.

    Returns:
        float64 (t, h - k + 1, w - k + 1), k = 11 or 7: only windows that lie wholly inside.
    """
    weights = window_weights(window).numpy()
    if min(generated.shape[1:3]) < len(weights):
        raise ValueError(
            f"SSIM needs frames of at least {len(weights)} pixels a side, not {generated.shape[1:3]}"
        )
    # One frame at a time: its maps stay in the processor's cache, which is several times as fast as a stack.
    pairs = zip(generated.cpu().numpy(), ground_truth.cpu().numpy(), strict=True)
    return torch.from_numpy(np.stack([_frame_map(x, y, weights) for x, y in pairs])).to(generated.device)


def _frame_map(
    generated: NDArray[np.uint8], ground_truth: NDArray[np.uint8], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """SSIM of every window of one frame: twice (h, w, 3) → (h - k + 1, w - k + 1)."""
    margin = len(weights) // 2

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of every window that lies wholly inside."""
        filtered = np.asarray(cv2.sepFilter2D(x, cv2.CV_64F, weights, weights), np.float64)
        filtered = filtered.reshape(x.shape)  # OpenCV drops an axis of one channel
        return filtered[margin:-margin, margin:-margin]

    x, y = generated.astype(np.float64), ground_truth.astype(np.float64)
    # Only μxμy, μx²+μy², σxy and σx²+σy² enter the formula, and the sum and the difference of the pictures
    # give all four: 4xy = (x+y)² - (x-y)², 2(x²+y²) = (x+y)² + (x-y)². Four filterings instead of five.
    s, d = x + y, x - y
    mean_s, mean_d, mean_ss, mean_dd = (mean(v) for v in (s, d, s * s, d * d))
    squared_s, squared_d = mean_s**2, mean_d**2
    variance_s, variance_d = mean_ss - squared_s, mean_dd - squared_d
    if len(weights) == 7:  # skimage divides by n - 1 when the weights are equal
        variance_s, variance_d = variance_s * (49 / 48), variance_d * (49 / 48)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = ((squared_s - squared_d) / 2 + c1) / ((squared_s + squared_d) / 2 + c1)
    structure = ((variance_s - variance_d) / 2 + c2) / ((variance_s + variance_d) / 2 + c2)
    mapped: NDArray[np.float64] = (luminance * structure).mean(-1)
    return mapped


def ssim(
    generated: Tensor, ground_truth: Tensor, window: Window = "gaussian11", mask: Tensor | None = None
) -> Tensor:
    """Mean SSIM of each frame, float64 (t,), at most 1.

    With a ``mask``, bool (t, h, w), the mean is over the windows whose centre lies in it; NaN where there
    are none.
    """
    scores = ssim_map(generated, ground_truth, window)
    return scores.mean((1, 2)) if mask is None else _masked_mean(scores, mask)


def _masked_mean(scores: Tensor, mask: Tensor) -> Tensor:
    margin = (mask.shape[1] - scores.shape[1]) // 2
    inside = mask[:, margin : margin + scores.shape[1], margin : margin + scores.shape[2]]
    return (scores * inside).sum((1, 2)) / inside.sum((1, 2))


def _of_regions(window: Window) -> SharedFeatures:
    """Frames twice and masks (t, h, w) → (2, t), of the full frames and of the masks, from one map."""

    def values(generated: Tensor, ground_truth: Tensor, mask: Tensor) -> Tensor:
        scores = ssim_map(generated, ground_truth, window)
        return torch.stack([scores.mean((1, 2)), _masked_mean(scores, mask)])

    return SharedFeatures(values, name=f"ssim {window}")


_regions = {window: _of_regions(window) for window in get_args(Window)}


class SSIM(ClipMetric):
    """SSIM of each frame on RGB bytes, mean over channels and windows.

    Args:
        window: see :func:`ssim_map`; the column says ``wang`` for gaussian11 and ``skimage`` for uniform7.
        region: ``"full"`` frame, or windows centred in the ``"mouth"`` square.
    """

    higher_is_better = True
    digits = 4

    def __init__(self, window: Window = "gaussian11", region: Region = "full") -> None:
        super().__init__()
        self.window: Window = window
        self.region = region
        if region == "background":
            raise ValueError("SSIM has the regions full and mouth")
        self.needs = frozenset({"truth"} | ({"mouth"} if region == "mouth" else set()))
        variant = {"gaussian11": "wang", "uniform7": "skimage"}[window]
        self.column = f"SSIM[{variant}]" if region == "full" else f"SSIM[{variant},mouth]"

    def frame_values(self, footage: Footage) -> Tensor:
        """SSIM of each frame."""
        mouth = footage.mask("mouth")
        if mouth is None:
            return ssim(footage.generated, footage.ground_truth, self.window)
        full, inside = _regions[self.window](footage.generated, footage.ground_truth, mouth)
        return full if self.region == "full" else inside
