"""Put a generated crop back into the frame that it was cut from, at the frame's own resolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from talkgen.faces.crop import invert, transform_points, warp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def paste_back(
    frame: NDArray[np.uint8],
    crop: NDArray[np.uint8],
    matrix: ArrayLike,
    mask: NDArray[np.floating],
    match_colour: bool = False,
) -> NDArray[np.uint8]:
    """The frame with the masked part of ``crop`` in its place.

    The crop is carried back by the exact inverse of the matrix that cut it. Pixels of the frame to which the
    mask gives no weight keep their bits; the rest is ``mask · crop + (1 - mask) · frame``, rounded.

    Args:
        frame: uint8 (height, width, 3); not changed.
        crop: uint8 (size, size, 3).
        matrix: (2, 3) frame pixels → crop pixels, as given to `talkgen.faces.crop.crop_frame`.
        mask: (size, size) in [0, 1], of the crop; see `talkgen.faces.mask`.
        match_colour: shift each channel of the crop so that its mean over the soft rim of the mask equals the
            frame's there, which hides a colour seam. Does nothing where the mask has no soft rim.

    Returns:
        uint8 (height, width, 3), a new array.
    """
    height, width = frame.shape[:2]
    if crop.shape[:2] != mask.shape:
        raise ValueError(f"crop {crop.shape[:2]} and mask {mask.shape} differ in size")
    result = frame.copy()
    region = cv2.boundingRect((mask > 0).astype(np.uint8))
    left, top, columns, rows = (int(value) for value in region)
    if columns == 0:
        return result
    # Only the part of the frame under the mask is touched; two pixels more on every side for interpolation.
    way_back = np.asarray(invert(matrix), np.float64)
    right, bottom = left + columns, top + rows
    corners = transform_points(way_back, [[left, top], [right, top], [left, bottom], [right, bottom]])
    x0, y0 = (int(v) for v in np.clip(np.floor(corners.min(0)) - 2, 0, (width, height)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(corners.max(0)) + 2, 0, (width, height)))
    if x1 <= x0 or y1 <= y0:
        return result
    way_back[:, 2] -= (x0, y0)

    weight = cv2.warpAffine(
        np.asarray(mask, np.float32), way_back, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR
    )
    placed = warp(crop, way_back, x1 - x0, y1 - y0)
    under = result[y0:y1, x0:x1]
    if match_colour:
        rim = (weight > 0.02) & (weight < 0.98)
        if rim.any():
            tint = under[rim].mean(0) - placed[rim].mean(0)
            placed = np.clip(np.rint(placed + tint), 0, 255).astype(np.uint8)
    # OpenCV divides by the sum of the weights, 1 + 1e-5, and rounds: a pixel of weight 0 keeps its bits.
    result[y0:y1, x0:x1] = cv2.blendLinear(placed, np.ascontiguousarray(under), weight, 1 - weight)
    return result
