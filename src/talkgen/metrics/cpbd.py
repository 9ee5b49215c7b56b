"""Cumulative probability of blur detection (Narvekar & Karam 2011), as python-cpbd 1.0.7 computes it."""

from __future__ import annotations

from math import atan2, pi

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.metrics.canny import canny
from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage
from talkgen.metrics.shared_features import SharedFeatures

BLOCK = 64
"""Side of the blocks that are called edge blocks or not."""
EDGE_SHARE = 0.002
"""Share of edge pixels from which on a block counts."""
LOW_CONTRAST = 50
"""Up to this contrast of a block an edge 5 pixels wide looks sharp, above it one of 3."""
REACH = 101
"""Pixels to each side after which the search for the end of an edge is given up."""


def cpbd(image: NDArray[np.uint8]) -> float:
    """Share of the edges in edge blocks that are no wider than what people notice as blur; higher is sharper.

    An edge of width w in a block with just noticeable width j is seen as blurred with the probability
    1 − exp(−(w/j)^3.6); CPBD is the share of edges with a probability up to 63 %, which means w ≤ j.
    It rises when a picture is made smaller and with JPEG's blocks: compare at one size and codec only.

    Args:
        image: grey bytes (h, w).

    Returns:
        0 where no block has edges, as in pictures below 64 pixels.
    """
    grey = image.astype(np.float64)
    widths = _edge_widths(grey, _sobel_edges(grey))
    edges = canny(grey)
    rows, columns = (side // BLOCK for side in image.shape)
    whole = (slice(rows * BLOCK), slice(columns * BLOCK))
    blocked = (rows, BLOCK, columns, BLOCK)
    counted = edges[whole].reshape(blocked).sum((1, 3)) > EDGE_SHARE * BLOCK * BLOCK
    blocks = grey[whole].reshape(blocked)
    contrast = (blocks.max((1, 3)) - blocks.min((1, 3))).astype(int) if rows and columns else np.zeros((0, 0))
    noticeable = np.where(contrast <= LOW_CONTRAST, 5, 3)
    width = widths[whole].reshape(blocked)
    found = (width > 0) & counted[:, None, :, None]
    sharp = found & (width <= noticeable[:, None, :, None])
    return float(sharp.sum() / found.sum()) if found.any() else 0.0


def _sobel_edges(grey: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Vertical edges as Octave's edge function finds them: strong, and stronger than a pair of neighbours."""
    wide = np.pad(grey, 1, mode="symmetric")
    across = wide[:, 2:] - wide[:, :-2]  # whole numbers up to here, so that their order does not matter
    strength = ((across[:-2] + 2 * across[1:-1] + across[2:]) / 8) ** 2
    strength[strength <= 2 * np.sqrt(strength.mean())] = 0
    padded = np.pad(strength, 1)
    inside = (slice(1, -1), slice(1, -1))
    peaks = (strength > padded[inside[0], :-2]) & (strength > padded[inside[0], 2:])
    ridges = (strength > padded[:-2, inside[1]]) & (strength > padded[2:, inside[1]])
    edges: NDArray[np.bool_] = peaks | ridges
    return edges


def _edge_widths(grey: NDArray[np.float64], edges: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Width of each edge along its row (Marziliano et al. 2002), 0 where there is none."""
    down, across = np.gradient(grey, axis=0), np.gradient(grey, axis=1)
    if not ((across != 0) & ((down != 0) | (across < 0))).any():  # every angle is 0: no edge is measured
        return np.zeros(grey.shape, np.int64)
    widths: NDArray[np.int64] = _measure(grey, edges, down, across)
    return widths


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _measure(
    grey: NDArray[np.float64],
    edges: NDArray[np.bool_],
    down: NDArray[np.float64],
    across: NDArray[np.float64],
) -> NDArray[np.int64]:
    height, width = grey.shape
    widths = np.zeros((height, width), np.int64)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not edges[y, x]:
                continue
            # The original leaves the angle at 0 where nothing changes along the row.
            angle = atan2(down[y, x], across[y, x]) * (180 / pi) if across[y, x] != 0 else 0.0
            turns = abs(angle / 45)
            if 0.5 < turns < 3.5:  # diagonal and vertical gradients are not measured
                continue
            rising = 1.0 if turns <= 0.5 else -1.0
            # To both sides as long as the picture goes on falling to the left and rising to the right, or
            # the other way round.
            left = 1
            while (
                left < REACH
                and x - 1 - left >= 0
                and rising * (grey[y, x - 1 - left] - grey[y, x - left]) < 0
            ):
                left += 1
            right = 1
            while (
                right < REACH
                and x + 1 + right < width
                and rising * (grey[y, x + 1 + right] - grey[y, x + right]) > 0
            ):
                right += 1
            widths[y, x] = left + right
    return widths


def grey_of(frames: Tensor) -> NDArray[np.uint8]:
    """uint8 RGB (t, h, w, 3) → uint8 (t, h, w): Pillow's L (BT.601), on which published values rest."""
    weighted = frames.int() @ torch.tensor([19595, 38470, 7471], dtype=torch.int32)
    grey: NDArray[np.uint8] = ((weighted + 0x8000) >> 16).to(torch.uint8).numpy()
    return grey


def _every_cpbd(frames: Tensor) -> Tensor:
    return torch.tensor([cpbd(image) for image in grey_of(frames)], dtype=torch.float64)


frames_cpbd = SharedFeatures(_every_cpbd, name="cpbd")
"""CPBD of each frame: uint8 RGB (t, h, w, 3) → float64 (t,)."""


class CPBD(ClipMetric):
    """Sharpness of the generated frames; see :func:`cpbd`. Read it beside the ground truth's own."""

    higher_is_better = True
    column = "CPBD[python-cpbd]"

    def frame_values(self, footage: Footage) -> Tensor:
        """CPBD of each frame."""
        return frames_cpbd(footage.generated)


class CPBDDifference(ClipMetric):
    """|CPBD − CPBD of the truth| of each frame: sharper than the truth is as wrong as softer."""

    higher_is_better = False
    needs = frozenset({"truth"})
    column = "CPBD error[python-cpbd]"

    def frame_values(self, footage: Footage) -> Tensor:
        """Difference in each frame."""
        return (frames_cpbd(footage.generated) - frames_cpbd(footage.ground_truth)).abs()
