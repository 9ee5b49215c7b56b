"""The tight face box that lip-sync experts were trained on, from landmarks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from talkgen.models.layers.warp import warp_affine

BROWS = slice(17, 27)  # iBUG-68
CHIN = 8


def face_box_matrix(landmarks: Float[Tensor, "b t 68 2"], size: int) -> Float[Tensor, "b 2 3"]:
    """Pixels of a window's frames → pixels of a square box of ``size``, one box a window.

    The box is as wide as it is high: from a quarter of the height of the face (brows to chin) above the brows
    to just below the chin, about what the detector of Wav2Lip's data cuts out. It is the mean over the frames,
    so that an opening jaw moves the chin in the box and not the box with the chin.
    """
    points = landmarks.mean(1)
    top = points[:, BROWS, 1].mean(1)
    height = points[:, CHIN, 1] - top
    side = 1.35 * height
    centre_x = (points[:, 0, 0] + points[:, 16, 0]) / 2
    scale = size / side
    matrix = landmarks.new_zeros(len(landmarks), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    # Edges of the box lie half a pixel outside the centres of its outermost pixels.
    matrix[:, 0, 2] = size / 2 - 0.5 - scale * centre_x
    matrix[:, 1, 2] = -0.5 - scale * (top - 0.25 * height)
    return matrix


def face_box(
    video: Float[Tensor, "b t 3 h w"], landmarks: Float[Tensor, "b t 68 2"], size: int = 96
) -> Float[Tensor, "b t 3 size size"]:
    """Cut the face box out of every frame of a window; gradients reach ``video``.

    Args:
        video: frames, any range.
        landmarks: pixels of ``video``.
        size: of the box, in pixels.
    """
    t = video.shape[1]
    matrix = face_box_matrix(landmarks.to(video.dtype), size).repeat_interleave(t, 0)
    cut: Tensor = warp_affine(video.flatten(0, 1), matrix, size)
    return cut.unflatten(0, (-1, t))
