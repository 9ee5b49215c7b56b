"""What PIRenderer is told of a frame: its motion coefficients, and those of its neighbours in time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.face3d.coefficients import ANGLE, EXPRESSION, TRANSLATION
from talkgen.models.pirender.mapping import RADIUS

MOTION_SIZE = 73
"""Expression 64, angle 3, translation 3, crop 3."""

ALIGNED_CROP = (1.0, 0.0, 0.0)
"""Scale and shift of crops that were aligned before the coefficients were found, as those of a store are:
they are the same in all frames, so that pose is all in angle and translation. The published weights know
crops of Deep3DFaceRecon, whose scale and shift in pixels stand here unnormalised (about 0.9, 128, 128)."""


def renderer_motion(
    coefficients: NDArray[np.floating], crop: tuple[float, float, float] = ALIGNED_CROP
) -> NDArray[np.float32]:
    """Coefficients ``(…, 257)`` → what the renderer takes of them, ``(…, 73)``; who it is, is not in it.

    Args:
        coefficients: in the order of ``face3d.coefficients``.
        crop: the last three numbers of every frame.
    """
    constant = np.broadcast_to(np.asarray(crop, np.float32), (*coefficients.shape[:-1], 3))
    parts = [coefficients[..., part] for part in (EXPRESSION, ANGLE, TRANSLATION)]
    return np.concatenate([*parts, constant], axis=-1, dtype=np.float32)


def renderer_motion_tensor(coefficients: Tensor, crop: tuple[float, float, float] = ALIGNED_CROP) -> Tensor:
    """The same of a tensor, on its device."""
    constant = coefficients.new_tensor(crop).expand(*coefficients.shape[:-1], 3)
    return torch.cat([*(coefficients[..., part] for part in (EXPRESSION, ANGLE, TRANSLATION)), constant], -1)


def edge_padded(motion: NDArray[np.float32]) -> NDArray[np.float32]:
    """A clip ``(frames, n)`` with its first and last frame repeated ``RADIUS`` times: (frames + 26, n)."""
    return np.pad(motion, ((RADIUS, RADIUS), (0, 0)), mode="edge")


def window_frames(frame: int, frames: int) -> NDArray[np.int64]:
    """Numbers of the 27 frames around a frame of a clip, the ends repeated."""
    return np.clip(np.arange(frame - RADIUS, frame + RADIUS + 1), 0, frames - 1)
