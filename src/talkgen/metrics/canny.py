"""Canny's edges as scikit-image 0.26 finds them, so that CPBD does not move with the installed version."""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LOW, HIGH = 0.1, 0.2
"""Thresholds of the gradient's strength: scikit-image's defaults, meant for pictures in [0, 1]."""


@lru_cache(maxsize=4)
def _inside(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """How much of the smoothing lies inside a picture: what lies outside is absent, not black."""
    weight = ndimage.gaussian_filter(np.ones(shape), 1.0, mode="constant")
    return np.asarray(weight + np.finfo(np.float64).eps, np.float64)


def canny(image: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Edges (Canny 1986) with σ = 1.

    Args:
        image: grey (h, w). On 0 to 255, as CPBD calls it, the thresholds let nearly every gradient pass.

    Returns:
        bool (h, w); the outermost pixels are never edges.
    """
    smooth = ndimage.gaussian_filter(image, 1.0, mode="constant") / _inside(image.shape)
    across, down = ndimage.sobel(smooth, axis=1), ndimage.sobel(smooth, axis=0)
    strength = np.sqrt(down * down + across * across)
    thin = _thinned(down, across, strength, LOW)
    labels, count = ndimage.label(thin > 0, np.ones((3, 3), bool))
    strong = np.zeros(count + 1, bool)
    strong[labels[thin >= HIGH]] = True
    strong[0] = False
    edges: NDArray[np.bool_] = strong[labels]
    return edges


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _thinned(
    down: NDArray[np.float64], across: NDArray[np.float64], strength: NDArray[np.float64], low: float
) -> NDArray[np.float64]:
    """Strength where it is a maximum along the gradient, else 0; neighbours are interpolated linearly."""
    height, width = strength.shape
    thin = np.zeros((height, width))
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            here = strength[y, x]
            if here < low:
                continue
            dy, dx = abs(down[y, x]), abs(across[y, x])
            slope = 1 if down[y, x] * across[y, x] >= 0 else -1  # of the diagonal that the gradient follows
            if dy > dx:
                weight = dx / dy
                ahead, behind = strength[y + 1, x], strength[y - 1, x]
            else:
                weight = dy / dx if dx > 0 else 0.0
                ahead, behind = strength[y, x + slope], strength[y, x - slope]
            ahead = strength[y + 1, x + slope] * weight + ahead * (1 - weight)
            behind = strength[y - 1, x - slope] * weight + behind * (1 - weight)
            if ahead <= here and behind <= here:
                thin[y, x] = here
    return thin
