"""Cut a square around a face out of a frame, and the ways between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class CropSettings:
    """Which part of the picture a model sees.

    Attributes:
        size: side of the crop in pixels.
        scale: side of the crop in face heights (hairline to chin, the height of a detector's box).
        eye_line: height of the eyes in the crop, 0 at the top, 1 at the bottom.
        smoothing_seconds: width of the centred window over which the position is smoothed (scale and angle
            over four times that); 0 follows every frame.
        rotate: turn the eyes level; else the crop stays upright, which keeps the head's tilt as pose.
    """

    size: int = 256
    scale: float = 1.3
    eye_line: float = 0.44
    smoothing_seconds: float = 0.4
    rotate: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.scale <= 0 or not 0 < self.eye_line < 1 or self.smoothing_seconds < 0:
            raise ValueError(f"impossible crop: {self}")


CROPS: dict[str, CropSettings] = {
    "face": CropSettings(),
    "head": CropSettings(scale=1.7, eye_line=0.44),
    "close": CropSettings(scale=1.1, eye_line=0.40),
}
"""Named presets. In all of them the horizontal middle passes just under the eyes: the upper half holds eyes,
brows and forehead, the lower half nose, mouth and chin, as Wav2Lip, Diff2Lip and SwapTalk (fig. 1) need.
``face``: forehead to chin and a margin. ``head``: head and shoulders, as in SwapTalk's figure. ``close``:
brows to chin, where every pixel must count."""

# Outside of a frame, all in sides of the crop: where the blurred colours have taken over from the repeated
# border pixels, and the stronger blur from the weaker. Blurs are made in a picture of this side.
_NEAR, _NEAR_BLUR = 0.06, 0.05
_FAR, _FAR_BLUR = 0.3, 0.2
_SMALL = 32


def crop_frame(frame: NDArray[np.uint8], matrix: ArrayLike, size: int) -> NDArray[np.uint8]:
    """Cut a crop of ``size`` × ``size`` out of a frame.

    Where it leaves the frame, border pixels are repeated and fade into their own blur with the distance:
    repeated alone they are streaks, and a mirror would show further ears.

    Args:
        frame: uint8 (height, width, channels).
        matrix: (2, 3) source pixels → crop pixels.
        size: side in pixels.

    Returns:
        uint8 (size, size, channels).
    """
    way = np.asarray(matrix, np.float64)
    back = np.asarray(invert(way), np.float64)
    last = np.array(frame.shape[1::-1]) - 1
    corners = transform_points(back, [[0, 0], [size - 1, 0], [0, size - 1], [size - 1, size - 1]])
    # A border that is missed by half a pixel is the border: no pixel's middle lies outside.
    if (corners >= -0.5).all() and (corners <= last + 0.5).all():
        return warp(frame, way, size, size)
    crop = warp(frame, way, size, size)
    _soften_outside(crop, back, last)
    return crop


def _soften_outside(crop: NDArray[np.uint8], back: NDArray[np.float64], last: NDArray[np.int_]) -> None:
    """Fade a crop, whose outside repeats border pixels, into its own blurs with the distance, in place."""
    size = len(crop)
    side = min(size, _SMALL)
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).reshape(side, side, -1)
    near, far = (
        cv2.GaussianBlur(small, (0, 0), blur * side, borderType=cv2.BORDER_REPLICATE).reshape(small.shape)
        for blur in (_NEAR_BLUR, _FAR_BLUR)
    )
    places = (np.arange(side) + 0.5) * size / side - 0.5
    weight = _fading(_outside(places, places, size, back, last), _FAR)
    ground = cv2.resize(
        cv2.blendLinear(near, far, weight, 1 - weight), (size, size), interpolation=cv2.INTER_LINEAR
    )
    # Bands keep the arrays of weights small, and many of them lie inside of the frame.
    for top in range(0, size, _SMALL):
        band = slice(top, top + _SMALL)
        outside = _outside(np.arange(size)[band], np.arange(size), size, back, last)
        if outside.any():
            weight = _fading(outside, _NEAR)
            # OpenCV divides by the sum of the weights, 1 + 1e-5, and rounds: what lies inside keeps its bits.
            mixed = cv2.blendLinear(crop[band], ground[band], weight, 1 - weight)
            crop[band] = mixed.reshape(crop[band].shape)


def _outside(
    rows: NDArray[Any], columns: NDArray[Any], size: int, back: NDArray[np.float64], last: NDArray[np.int_]
) -> NDArray[np.float32]:
    """How far the places of a crop lie outside of the frame, in sides of the crop: (rows, columns)."""
    side = size * np.sqrt(abs(np.linalg.det(back[:, :2])))
    beyond = []
    for (along, down, start), end in zip(back / side, last / side, strict=True):
        # Counted from the middle of the frame, so that both ends are alike.
        place = np.add.outer(down * rows + start - end / 2, along * columns, dtype=np.float32)
        beyond.append(np.maximum(np.abs(place) - np.float32(end / 2), 0))
    return cv2.magnitude(*beyond)


def _fading(distance: NDArray[np.float32], over: float) -> NDArray[np.float32]:
    """1 at distance 0, smoothly to 0 at ``over``."""
    rest = 1 - np.minimum(distance / np.float32(over), 1)
    return rest * rest * (3 - 2 * rest)


def warp(image: NDArray[np.uint8], matrix: ArrayLike, width: int, height: int) -> NDArray[np.uint8]:
    """Resample an image by an affine matrix, without aliasing.

    Bicubic where it enlarges or keeps the size, bilinear where it shrinks, and from twice smaller on the
    image is averaged over areas first: sampling alone would skip pixels. Border pixels are repeated outside.

    Args:
        image: uint8 (height, width, channels).
        matrix: (2, 3) input pixels → output pixels.
        width, height: of the output.
    """
    way = np.asarray(matrix, np.float64)
    scale = float(np.sqrt(abs(np.linalg.det(way[:, :2]))))
    if scale <= 0.5:
        image, way = _averaged(image, way, width, height, int(1 / scale))
    return np.asarray(
        cv2.warpAffine(
            image,
            way,
            (width, height),
            # A hair below 1, because the zoom of a smoothed track is never exactly 1.
            flags=cv2.INTER_CUBIC if scale > 0.98 else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )


def _averaged(
    image: NDArray[np.uint8], way: NDArray[np.float64], width: int, height: int, shrink: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of the image that the output sees, as means of ``shrink``² pixels, and its matrix."""
    rows, columns = image.shape[:2]
    corners = transform_points(invert(way), [[0, 0], [width, 0], [0, height], [width, height]])
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - shrink, 0, (columns - 1, rows - 1))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + shrink, (x0 + 1, y0 + 1), (columns, rows))
    # Pad to whole blocks, so that every block is an exact mean.
    part = image[y0:y1, x0:x1]
    part = np.pad(part, ((0, -part.shape[0] % shrink), (0, -part.shape[1] % shrink), (0, 0)), mode="edge")
    blocks = (part.shape[1] // shrink, part.shape[0] // shrink)
    small = np.asarray(cv2.resize(part, blocks, interpolation=cv2.INTER_AREA), np.uint8)
    # Pixel u of the small picture has its centre at x0 + shrink · u + (shrink - 1) / 2.
    half = (shrink - 1) / 2
    offset = way[:, :2] @ np.array([x0 + half, y0 + half]) + way[:, 2]
    small = small.reshape(blocks[1], blocks[0], -1)
    return small, np.column_stack([way[:, :2] * shrink, offset])


def invert(matrix: ArrayLike) -> NDArray[np.float32]:
    """The way back: (..., 2, 3) → float32 (..., 2, 3)."""
    way = np.asarray(matrix, np.float64)
    linear = np.linalg.inv(way[..., :2])
    shift = -(linear @ way[..., 2:])
    return np.concatenate([linear, shift], axis=-1).astype(np.float32)


def transform_points(matrix: ArrayLike, points: ArrayLike) -> NDArray[np.float32]:
    """Move points (..., n, 2) by matrices (..., 2, 3); leading axes broadcast."""
    way = np.asarray(matrix, np.float64)
    moved = np.asarray(points, np.float64) @ np.swapaxes(way[..., :2], -1, -2) + way[..., None, :, 2]
    return moved.astype(np.float32)
