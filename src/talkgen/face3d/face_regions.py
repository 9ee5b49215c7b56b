"""Parts of a face on any mesh whose 68 landmarks are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# points of each region, and its reach around them in distances between the eyes
_REACH: dict[str, tuple[slice, float]] = {
    "lip": (slice(48, 68), 0.12),
    "mouth": (slice(48, 68), 0.30),
    "eye": (slice(36, 48), 0.16),
    "brow": (slice(17, 27), 0.16),
    "nose": (slice(27, 36), 0.22),
    "jaw": (slice(3, 14), 0.30),
    "face": (slice(0, 68), 0.55),
}


def regions_from_landmarks(
    mean: NDArray[np.floating], landmark_vertices: NDArray[np.integer]
) -> dict[str, NDArray[np.bool_]]:
    """Masks (n,) of `face`, `lip`, `mouth`, `eye`, `brow`, `nose` and `jaw`: vertices near their landmarks.

    Brows leave the eyes, and the jaw leaves the mouth, to their owners.

    Args:
        mean: (n, 3) vertices.
        landmark_vertices: (68,).
    """
    points = np.asarray(mean, np.float64)[landmark_vertices]
    unit = np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0))
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, (part, reach) in _REACH.items():
        nearest = np.full(len(mean), np.inf)
        for point in points[part]:
            nearest = np.minimum(nearest, np.linalg.norm(mean - point, axis=1))
        masks[name] = nearest < reach * unit
    masks["brow"] &= ~masks["eye"]
    masks["jaw"] &= ~masks["mouth"]
    return masks
