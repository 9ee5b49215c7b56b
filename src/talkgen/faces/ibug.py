"""The 68 face points of iBUG (300-W): which is which, and what is read off them.

Order: 0-16 outline, 17-26 brows, 27-35 nose, 36-47 eyes, 48-59 outer lips, 60-67 inner lips; left before
right as seen in the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)
"""Points of the eyes; left and right as seen in the picture."""

NOSE_TIP, LEFT_MOUTH, RIGHT_MOUTH = 30, 48, 54
"""Single points that serve as keypoints."""


def keypoints_from_landmarks(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Five keypoints of 68 landmarks: centres of the eyes, tip of the nose, corners of the mouth.

    Args:
        landmarks: (..., 68, 2).

    Returns:
        float32 (..., 5, 2).
    """
    points = np.asarray(landmarks, np.float32)
    return np.stack(
        [
            points[..., LEFT_EYE, :].mean(-2),
            points[..., RIGHT_EYE, :].mean(-2),
            points[..., NOSE_TIP, :],
            points[..., LEFT_MOUTH, :],
            points[..., RIGHT_MOUTH, :],
        ],
        axis=-2,
    )


def mouth_opening(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Gap between the inner lips, in distances between the eyes: (..., 68, 2) → float32 (...).

    Mean over the three pairs of inner-lip points; 0 for a closed mouth.
    """
    points = np.asarray(landmarks, np.float32)
    gap = np.linalg.norm(points[..., [61, 62, 63], :] - points[..., [67, 66, 65], :], axis=-1).mean(-1)
    eyes = points[..., LEFT_EYE, :].mean(-2) - points[..., RIGHT_EYE, :].mean(-2)
    opening: NDArray[np.float32] = gap / np.linalg.norm(eyes, axis=-1)
    return opening
