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
    way_back = np.asarray(invert(matrix), np.float64)
    # Only the part of the frame under the crop is touched; one pixel more on every side for interpolation.
    rows, columns = mask.shape
    corners = transform_points(way_back, [[0, 0], [columns, 0], [0, rows], [columns, rows]])
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, (width, height))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, (width, height))
    if x1 <= x0 or y1 <= y0:
        return result
    way_back[:, 2] -= (x0, y0)

    weight = cv2.warpAffine(
        np.asarray(mask, np.float32), way_back, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR
    )
    placed = warp(crop, way_back, int(x1 - x0), int(y1 - y0)).astype(np.float32)
    under = frame[y0:y1, x0:x1].astype(np.float32)
    if match_colour:
        rim = (weight > 0.02) & (weight < 0.98)
        if rim.any():
            placed += under[rim].mean(0) - placed[rim].mean(0)
    share = weight[..., None]
    mixed = np.clip(np.rint(under + share * (placed - under)), 0, 255).astype(np.uint8)
    result[y0:y1, x0:x1] = np.where(share > 0, mixed, frame[y0:y1, x0:x1])
    return result
