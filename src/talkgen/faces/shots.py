"""Find the cuts between the shots of a video, while its frames stream by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import convolve1d

if TYPE_CHECKING:
    from numpy.typing import NDArray


def shot_boundaries(
    frames: Iterable[NDArray[np.uint8]], threshold: float = 0.25, contrast: float = 4.0
) -> Iterator[int]:
    """Numbers of the frames with which a new shot begins (never 0), as soon as each is seen.

    A cut is where a frame differs much from the one before, and much more than frames have been differing
    lately, so that fast motion and flicker do not count. The difference is the mean of two numbers between 0
    and 1, taken from pictures of 32 × 32 pixels: how much the colour histograms do not overlap, and the mean
    difference of the brightness, four times enlarged. Slow fades are not found.

    Args:
        frames: uint8 RGB (height, width, 3), in order.
        threshold: least difference of a cut.
        contrast: how many times the median difference of the last second or so it must be.
    """
    recent: deque[float] = deque(maxlen=25)
    before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    for index, frame in enumerate(frames):
        look = _look(frame)
        if before is not None:
            overlap = float(np.minimum(look[0], before[0]).sum())
            brightness = min(1.0, 4 * float(np.abs(look[1] - before[1]).mean()))
            difference = (1 - overlap + brightness) / 2
            usual = float(np.median(recent)) if recent else 0.0
            if difference > max(threshold, contrast * usual):
                yield index
                recent.clear()
            else:
                recent.append(difference)
        before = look


def _look(frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Histogram of 8 × 8 × 8 colours (sum 1), softened so that small changes of light move it little; and
    the brightness in [0, 1] of a small copy.
    """
    small = np.asarray(cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA), np.uint8)
    red, green, blue = (small[..., channel].astype(np.int64) >> 5 for channel in range(3))
    counts = np.bincount(((red * 8 + green) * 8 + blue).ravel(), minlength=512)
    histogram = counts.reshape(8, 8, 8).astype(np.float32) / counts.sum()
    for axis in range(3):
        histogram = convolve1d(histogram, [0.25, 0.5, 0.25], axis=axis, mode="nearest")
    return histogram, small.mean(-1, dtype=np.float32) / np.float32(255)
