"""Which pixels of a crop a model may change: float32 masks, 1 inside, 0 outside, soft in between.

Softness lies inside the region only, so that what is 0 stays untouched to the bit when a crop is pasted back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# iBUG points whose convex hull is the region.
_REGIONS = {
    "mouth": list(range(48, 60)),
    "lower_face": [*range(1, 16), 28],  # the outline from ear to ear and the bridge of the nose
    "face": list(range(27)),  # the outline and the brows
}


def lower_half_mask(size: int, feather_pixels: float = 0.0) -> NDArray[np.float32]:
    """The lower half of a crop, which Wav2Lip, Diff2Lip and SwapTalk's lip-sync generate.

    Args:
        size: side of the crop; the first row of the mask is ``size // 2``.
        feather_pixels: width of the soft rim.

    Returns:
        float32 (size, size).
    """
    region = np.zeros((size, size), bool)
    region[size // 2 :] = True
    return feathered_mask(region, feather_pixels)


def landmark_mask(
    landmarks: NDArray[np.floating],
    size: int,
    region: Literal["mouth", "lower_face", "face"] = "mouth",
    grow: float = 0.0,
    feather_pixels: float = 0.0,
) -> NDArray[np.float32]:
    """The convex hull of a region of the face.

    Args:
        landmarks: (68, 2) in pixels of the crop.
        size: side of the crop.
        region: ``"mouth"`` (outer lips), ``"lower_face"`` (outline and bridge of the nose: all that speech
            moves), ``"face"`` (outline and brows).
        grow: how far the hull is moved outwards, as a share of its width.
        feather_pixels: width of the soft rim, inside the (grown) hull.

    Returns:
        float32 (size, size).
    """
    if region not in _REGIONS:
        raise ValueError(f"no region {region!r}; there are {', '.join(_REGIONS)}")
    points = np.asarray(landmarks, np.float32)[_REGIONS[region]]
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    reach = round(grow * float(np.ptp(points[:, 0])))
    if reach > 0:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        canvas = np.asarray(cv2.dilate(canvas, disc), np.uint8)
    return feathered_mask(canvas > 0, feather_pixels)


def feathered_mask(region: NDArray[np.bool_], feather_pixels: float) -> NDArray[np.float32]:
    """Fade a region out towards its rim, the border of the picture included.

    Args:
        region: bool (height, width).
        feather_pixels: distance from the rim at which the mask reaches 1; 0 leaves it hard.

    Returns:
        float32 (height, width): a smooth step (3 t² - 2 t³) of the distance from the rim, 0 outside.
    """
    if feather_pixels <= 0:
        return region.astype(np.float32)
    framed = np.pad(region.astype(np.uint8), 1)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    # The outermost pixels of the region lie half a pixel inside of its rim.
    t = np.clip((distance - 0.5) / feather_pixels, 0, 1) * region
    return (t * t * (3 - 2 * t)).astype(np.float32)
