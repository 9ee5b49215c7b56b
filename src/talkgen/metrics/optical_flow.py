"""Dense motion between neighbouring frames, and what can be seen of one frame in the other."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def farneback(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flow (h, w, 2) in pixels from one RGB frame to the next, with the settings of TecoGAN's tOF."""
    before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    start = np.zeros((*before.shape, 2), np.float32)
    return np.asarray(
        cv2.calcOpticalFlowFarneback(before, after, start, 0.5, 3, 15, 3, 5, 1.2, 0), np.float32
    )


def fetch(image: NDArray[np.floating], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """What lies at the end of the flow: image[y + v, x + u], bilinear, the border repeated."""
    rows = np.arange(flow.shape[0], dtype=np.float32)[:, None]
    fetched = cv2.remap(
        image.astype(np.float32, copy=False),
        np.arange(flow.shape[1], dtype=np.float32) + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(fetched, np.float32)


def occluded(flow: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels of the first frame that the second does not show (Ruder et al. 2016, as Lai et al. 2018 use it).

    Where going there and back does not return, |w̃ + w|² > 0.01 (|w̃|² + |w|²) + 0.5, and at borders of motion,
    |∇w|² > 0.01 |w|² + 0.002.

    Args:
        flow: w, from the first frame to the second (h, w, 2).
        back: from the second to the first.
    """
    returned = fetch(back, flow)
    length = _squared(flow)
    lost = _squared(returned + flow) > 0.01 * (_squared(returned) + length) + 0.5
    gradient = np.zeros_like(length)
    gradient[:, :-1] += _squared(flow[:, :-1] - flow[:, 1:])
    gradient[:-1] += _squared(flow[:-1] - flow[1:])
    result: NDArray[np.bool_] = lost | (gradient > 0.01 * length + 0.002)
    return result


def _squared(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    squared: NDArray[np.float32] = flow[..., 0] ** 2 + flow[..., 1] ** 2
    return squared
