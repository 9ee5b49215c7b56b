"""Damage whose direction is known: what a metric must notice, or must not.

Each function takes uint8 RGB frames (t, h, w, 3) and gives frames of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from talkgen.faces.ibug import LEFT_EYE, RIGHT_EYE
from talkgen.metrics.footage import MOUTH_POINTS


def blur(frames: Tensor, sigma_px: float) -> Tensor:
    """A Gaussian of this deviation over every frame."""
    return _each(frames, lambda frame: cv2.GaussianBlur(frame, (0, 0), sigma_px))


def jpeg(frames: Tensor, quality: int) -> Tensor:
    """Every frame through JPEG, quality 1 to 100."""

    def recode(frame: np.ndarray) -> np.ndarray:
        _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]

    return _each(frames, recode)


def flicker(frames: Tensor, levels: int) -> Tensor:
    """Every second frame lighter, the others darker by so many of 255 levels."""
    sign = torch.where(torch.arange(len(frames)) % 2 == 0, levels, -levels)
    return (frames.int() + sign[:, None, None, None]).clamp(0, 255).to(torch.uint8)


def tremble(frames: Tensor, reach_px: int, seed: int = 0) -> Tensor:
    """Every frame moved by up to so many pixels at random; the border is repeated."""
    moves = np.random.default_rng(seed).integers(-reach_px, reach_px + 1, (len(frames), 2))
    moved = []
    for frame, (dx, dy) in zip(frames.numpy(), moves, strict=True):
        padded = np.pad(frame, ((reach_px,) * 2, (reach_px,) * 2, (0, 0)), mode="edge")
        top, left = reach_px + dy, reach_px + dx
        moved.append(padded[top : top + frame.shape[0], left : left + frame.shape[1]])
    return torch.from_numpy(np.stack(moved))


def freeze_mouth(frames: Tensor, landmarks: Tensor, source: int) -> Tensor:
    """The mouth of one frame in all of them, laid where each frame's own mouth is.

    Args:
        frames: of a clip.
        landmarks: (t, 68, 2) in pixels.
        source: number of the frame whose mouth is taken.
    """
    return _freeze(frames, landmarks, source, np.arange(68)[MOUTH_POINTS], 1.5)


def freeze_eyes(frames: Tensor, landmarks: Tensor, source: int) -> Tensor:
    """The eyes of one frame in all of them: nobody blinks. Arguments are those of :func:`freeze_mouth`."""
    for eye in (LEFT_EYE, RIGHT_EYE):
        frames = _freeze(frames, landmarks, source, np.arange(68)[eye], 1.8)
    return frames


def _freeze(frames: Tensor, landmarks: Tensor, source: int, points: np.ndarray, widen: float) -> Tensor:
    """A soft ellipse around the mean place of some points, moved along with the face."""
    places = landmarks.numpy()
    # The face is followed by points that neither speaking nor blinking moves.
    still = places[:, 27:36].mean(1)
    patch = places[source, points]
    centre, reach = (patch.min(0) + patch.max(0)) / 2, (patch.max(0) - patch.min(0)).max() * widen / 2
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    distance = np.hypot(x - centre[0], y - centre[1]) / reach
    weight = np.clip((1.25 - distance) / 0.25, 0, 1)[..., None].astype(np.float32)
    origin = frames[source].numpy().astype(np.float32)
    changed = []
    for frame, shift in zip(frames.numpy(), still - still[source], strict=True):
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        size = (frame.shape[1], frame.shape[0])
        pasted = cv2.warpAffine(origin, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(weight, matrix, size)[..., None]
        changed.append((alpha * pasted + (1 - alpha) * frame).round().astype(np.uint8))
    return torch.from_numpy(np.stack(changed))


def _each(frames: Tensor, change: Callable[[np.ndarray], Any]) -> Tensor:
    changed = [np.ascontiguousarray(change(frame)) for frame in frames.numpy()]
    return torch.from_numpy(np.stack(changed))
