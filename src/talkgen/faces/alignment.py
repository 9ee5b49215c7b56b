"""Similarity transforms between faces and templates, and the matrices that cut a clip into stable crops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import median_filter

from talkgen.faces.crop import CropSettings
from talkgen.faces.ibug import keypoints_from_landmarks
from talkgen.faces.tracking import fill_gaps, smooth

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ARCFACE_SIZE = 112
"""Side in pixels of the pictures that recognition networks take."""

ARCFACE_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    np.float32,
)
"""Where ArcFace wants the five keypoints, in pixels of a 112 × 112 picture (Deng et al., CVPR 2019)."""


def similarity_transform(
    source_points: ArrayLike, target_points: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float32]:
    """The rotation, scale and shift that bring one set of points closest to another.

    Least squares over similarities (Umeyama, PAMI 1991, eq. 40-43), which in the plane has a closed form:
    with points as complex numbers, target ≈ a · source + b, a = Σ w conj(s) t / Σ w |s|² about the weighted
    means. A similarity is never a reflection.

    Args:
        source_points: (..., points, 2).
        target_points: (points, 2) or (..., points, 2).
        weights: (points,), not negative; default equal.

    Returns:
        float32 (..., 2, 3): source pixels → target pixels. NaN where points are NaN.
    """
    source = np.asarray(source_points, np.float64)
    target = np.asarray(target_points, np.float64)
    share = np.ones(source.shape[-2]) if weights is None else np.asarray(weights, np.float64)
    share = share / share.sum()
    s, t = source[..., 0] + 1j * source[..., 1], target[..., 0] + 1j * target[..., 1]
    s_mean, t_mean = (s * share).sum(-1, keepdims=True), (t * share).sum(-1, keepdims=True)
    spread = (share * np.abs(s - s_mean) ** 2).sum(-1)
    if np.any(spread == 0):
        raise ValueError("all source points coincide; no similarity is defined")
    a = (share * np.conj(s - s_mean) * (t - t_mean)).sum(-1) / spread
    b = t_mean[..., 0] - a * s_mean[..., 0]
    return _matrix(a, b).astype(np.float32)


def _matrix(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> NDArray[np.float64]:
    """2 × 3 matrices of z → a z + b."""
    return np.stack([np.stack([a.real, -a.imag, b.real], -1), np.stack([a.imag, a.real, b.imag], -1)], -2)


def identity_warp(keypoints: ArrayLike) -> NDArray[np.float32]:
    """Pixels in which ``keypoints`` (..., 5, 2) are given → ArcFace's 112 × 112, float32 (..., 2, 3)."""
    return similarity_transform(keypoints, ARCFACE_TEMPLATE)


# The crop hangs on points that speech does not move: the eyes, then the nose; the corners of the mouth hold
# the scale when the head turns. Opening the mouth would otherwise zoom the crop out with every syllable.
_STABLE_WEIGHTS = (1.0, 1.0, 0.4, 0.1, 0.1)

# Height of a face from the hairline to the chin in pixels of the ArcFace template: the mean height of a
# detector's box over real clips is 109.6.
_FACE_HEIGHT = 110.0

_EYES = ARCFACE_TEMPLATE[:2].mean(0)

# Heads come nearer and tilt more slowly than they sway, and a breathing crop is more visible than a late one.
_SLOW = 4


def crop_matrices(points: ArrayLike, settings: CropSettings, fps: float = 25.0) -> NDArray[np.float32]:
    """One matrix a frame that cuts the face out, smooth over time.

    Position, scale and angle are measured in each frame by a weighted similarity to the ArcFace template,
    cleaned of outliers by a running median, and smoothed by a centred window, so that the crop neither leads
    nor lags.
    Frames without a face take values in between (at the ends: those of the nearest frame with a face).

    Args:
        points: (frames, 5, 2) keypoints or (frames, 68, 2) landmarks in pixels; NaN where no face was found.
            One shot: cut the track at shot boundaries first.
        settings: which part of the picture, at which size.
        fps: frames a second, to turn seconds into frames.

    Returns:
        float32 (frames, 2, 3): source pixels → crop pixels.

    Raises:
        ValueError: if no frame has points.
    """
    keypoints = np.asarray(points, np.float64)
    if keypoints.ndim != 3 or keypoints.shape[1] not in (5, 68):
        raise ValueError(f"points must be (frames, 5 or 68, 2), got {keypoints.shape}")
    if keypoints.shape[1] == 68:
        keypoints = keypoints_from_landmarks(keypoints).astype(np.float64)
    with np.errstate(invalid="ignore"):  # frames without a face are filled below
        fit = similarity_transform(keypoints, ARCFACE_TEMPLATE, _STABLE_WEIGHTS).astype(np.float64)
    a = fit[:, 0, 0] + 1j * fit[:, 1, 0]
    b = fit[:, 0, 2] + 1j * fit[:, 1, 2]

    # The centre of the crop lies under (above) the middle of the eyes, in the upright direction of the face.
    side = settings.scale * _FACE_HEIGHT
    middle = complex(_EYES[0], _EYES[1] + (0.5 - settings.eye_line) * side)
    with np.errstate(invalid="ignore"):
        centre = (middle - b) / a
    angle = np.angle(a)
    known = np.isfinite(angle)
    angle[known] = np.unwrap(angle[known])
    track = fill_gaps(np.stack([centre.real, centre.imag, np.log(np.abs(a)), angle], axis=1))

    if settings.smoothing_seconds > 0:
        window = settings.smoothing_seconds * fps
        track = median_filter(track, size=(2 * round(window / 4) + 1, 1), mode="nearest")
        track = np.concatenate([smooth(track[:, :2], window), smooth(track[:, 2:], _SLOW * window)], axis=1)

    zoom = np.exp(track[:, 2]) * settings.size / side
    turn = np.exp(1j * track[:, 3]) if settings.rotate else 1.0
    factor = zoom * turn
    # The middle of the crop is (size - 1) / 2, as pixel centres are whole numbers.
    shift = (1 + 1j) * (settings.size - 1) / 2 - factor * (track[:, 0] + 1j * track[:, 1])
    return _matrix(factor, shift).astype(np.float32)
