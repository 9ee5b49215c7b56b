"""Natural image quality evaluator (Mittal, Soundararajan & Bovik 2013), as BasicSR 1.4.2 computes it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate
from scipy.special import gamma
from torch import Tensor

from talkgen import weights
from talkgen.errors import FileError
from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage
from talkgen.metrics.required_weights import NeedsWeights, weight_digests
from talkgen.metrics.shared_features import SharedFeatures, named

BLOCK = 96
"""Side of the blocks whose statistics are compared."""
LEAST_BLOCKS = 4
"""Fewer say nothing: pictures below 192 pixels have no value, and below 384 it is coarse."""
WEIGHTS = "niqe_pristine"

Channel = Literal["y", "gray"]

_SHAPES = np.arange(0.2, 10.001, 0.001)
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


@dataclass(frozen=True)
class Pristine:
    """Statistics of undistorted pictures: ``mean`` (36,), ``covariance`` (36, 36), ``window`` (7, 7)."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    window: NDArray[np.float64]


@lru_cache(maxsize=2)
def load_pristine(file: Path) -> Pristine:
    """The statistics of BasicSR's file.

    Raises:
        FileError: not that file.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            mean, covariance = arrays["mu_pris_param"].ravel(), arrays["cov_pris_param"]
            return Pristine(mean, covariance, arrays["gaussian_window"])
    except (OSError, KeyError, ValueError) as error:
        raise FileError(file, f"does not hold the statistics of NIQE ({error})") from error


def niqe(frame: NDArray[np.uint8], pristine: Pristine, channel: Channel = "y") -> float:
    """Distance of a picture's statistics from those of undistorted ones; lower is better.

    √((μ − μ₀)ᵀ ((Σ + Σ₀) / 2)⁺ (μ − μ₀)) over 36 features of blocks of 96 pixels (equation 10).

    Args:
        frame: uint8 RGB (h, w, 3).
        pristine: from :func:`load_pristine`.
        channel: BT.601 luma of MATLAB (16 to 235) or ``"gray"`` of OpenCV.

    Returns:
        NaN for fewer than four blocks.
    """
    rows, columns = (side // BLOCK for side in frame.shape[:2])
    if rows * columns < LEAST_BLOCKS:
        return float("nan")
    image = _luminance(frame, channel)[: rows * BLOCK, : columns * BLOCK]
    scales = []
    for side in (BLOCK, BLOCK // 2):
        # Single precision, as the original has it: its rounding is part of the published values.
        mean = correlate(image, pristine.window, mode="nearest")
        deviation = np.sqrt(np.abs(correlate(image**2, pristine.window, mode="nearest") - mean**2))
        normal = (image - mean) / (deviation + 1)
        blocks = normal.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(-1, side, side)
        scales.append(_block_features(blocks))
        image = _halved(image / np.float32(255)) * np.float32(255)
    features = np.concatenate(scales, axis=1)
    known = features[~np.isnan(features).any(1)]
    shift = pristine.mean - np.nanmean(features, axis=0)
    spread = (pristine.covariance + np.cov(known, rowvar=False)) / 2
    return float(np.sqrt(shift @ np.linalg.pinv(spread) @ shift))


def _luminance(frame: NDArray[np.uint8], channel: Channel) -> NDArray[np.float32]:
    """Whole numbers, as MATLAB rounds them."""
    # Numbers near a half round as in the original only if every step has its precision.
    rgb = frame.astype(np.float32) / 255
    if channel == "y":
        grey = ((rgb @ np.array([65.481, 128.553, 24.966]) + 16) / 255).astype(np.float32) * 255
    else:
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32) * 255
    return grey.round()


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """MATLAB's ``imresize`` by 0.5: a cubic kernel stretched to eight pixels, borders mirrored."""
    distance = np.abs(np.arange(8) - 3.5) / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    kernel = np.where(distance <= 1, near, far)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(image, [(3, 3) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        size = image.shape[axis] // 2
        taps = (np.take(padded, 2 * np.arange(size) + tap, axis) * kernel[tap] for tap in range(8))
        image = np.sum(list(taps), axis=0, dtype=np.float32)
    return image


def _block_features(blocks: NDArray[np.float32]) -> NDArray[np.float64]:
    """18 features of each block (n, side, side): of its values, and of the products of neighbours."""
    shape, left, right = _asymmetric_gaussian(blocks)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        features += [shape, (right - left) * (gamma(2 / shape) / gamma(1 / shape)), left, right]
    return np.stack(features, axis=1)


def _asymmetric_gaussian(
    blocks: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Shape, left and right scale of the asymmetric generalised Gaussian of each block (equation 7)."""
    values = blocks.reshape(len(blocks), -1).astype(np.float64)
    squares = values**2
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt((squares * side).sum(1) / side.sum(1)) for side in (values < 0, values > 0))
        ratio = left / right
        observed = np.abs(values).mean(1) ** 2 / squares.mean(1)
        observed = observed * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    # The ratio grows with the shape, so that the nearest entry of the table is one of two neighbours.
    above = np.searchsorted(_RATIOS, observed).clip(1, len(_RATIOS) - 1)
    nearer = np.abs(_RATIOS[above - 1] - observed) <= np.abs(_RATIOS[above] - observed)
    shape = _SHAPES[np.where(nearer, above - 1, above)]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


class NIQE(ClipMetric, NeedsWeights):
    """NIQE of every ``every``-th generated frame; the others are left out. Not for faces below 384 pixels.

    Args:
        channel: see :func:`niqe`.
        every: 1 scores all frames of a piece.
    """

    higher_is_better = False
    weight_names = (WEIGHTS,)

    def __init__(self, channel: Channel = "y", every: int = 1) -> None:
        super().__init__()
        if channel not in ("y", "gray"):
            raise ValueError(f"channel is y or gray, not {channel!r}")
        self.channel: Channel = channel
        self.every = every
        self.column = f"NIQE[basicsr,{channel}]"

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing without the statistics of undistorted pictures."""
        if self.lacking is None:
            super().update(footage)

    def frame_values(self, footage: Footage) -> Tensor:
        """NIQE of each frame that is scored, NaN for the others."""
        values = torch.full((footage.frames,), torch.nan, dtype=torch.float64)
        values[:: self.every] = _frames_niqe(self.channel)(footage.generated[:: self.every])
        return values


@lru_cache
def _frames_niqe(channel: Channel) -> SharedFeatures:
    """uint8 RGB (t, h, w, 3) → float64 (t,)."""
    pristine = load_pristine(weights.find(WEIGHTS))

    def values(frames: Tensor) -> Tensor:
        return torch.tensor([niqe(frame, pristine, channel) for frame in frames.numpy()], dtype=torch.float64)

    return SharedFeatures(values, name=named(f"niqe {channel}", weight_digests([WEIGHTS])))
