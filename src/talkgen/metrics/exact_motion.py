"""Motion that is known exactly, as numbers and not as pictures: what a detector cannot blur.

Methods that generate coefficients of a morphable model can be compared with the coefficients that a rendered
corpus was made with. Everything is read off the mean head without pose, so that faces and cameras do not
count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from talkgen.face3d.coefficients import EXPRESSION
from talkgen.face3d.model_files import open_morphable_model
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.face3d.subspaces import LANDMARKS
from talkgen.metrics.blinks import eye_aspect_ratio

Part = Literal["lip", "eye", "brow", "face"]

PARTS = ("lip", "eye", "brow", "face")


@dataclass(frozen=True)
class ExactMotion:
    """The motion behind some frames, and what it should be.

    Attributes:
        model: whose coefficients these are, for ``open_morphable_model``.
        generated: float (t, 257).
        truth: the same shape, exact; of the clip whose sound drove the frames.
        sounds: int (t,), the number of the sound that is spoken in each frame; None where it is not known.
    """

    model: str
    generated: Tensor
    truth: Tensor
    sounds: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse tracks of different lengths."""
        lengths = {len(x) for x in (self.generated, self.truth, self.sounds) if x is not None}
        if len(lengths) > 1:
            raise ValueError(f"generated, truth and sounds differ in length: {sorted(lengths)}")


@lru_cache(maxsize=2)
def head_of(model: str) -> MorphableModel:
    """The morphable model with as many coefficients as the 257 numbers hold."""
    return open_morphable_model(model).resized()


def unposed_landmarks(model: str, coefficients: Tensor) -> Tensor:
    """Landmarks (t, 68, 3) of the mean head without pose, in hundredths of the distance of its eyes' outer
    corners.
    """
    head = head_of(model)
    still = head.landmarks68(np.zeros(len(head.identity_basis)), np.zeros(len(head.expression_basis)))
    unit = float(np.linalg.norm(still[36] - still[45])) / 100
    expression = coefficients[:, EXPRESSION].double().numpy()
    points = head.landmarks68(np.zeros(len(head.identity_basis)), expression)
    return torch.from_numpy(np.asarray(points, np.float64) / unit)


def part_of(landmarks: Tensor, part: Part) -> Tensor:
    """The landmarks (…, n, 3) of a part of the face."""
    return landmarks if part == "face" else landmarks[..., LANDMARKS[part], :]


def lip_opening(landmarks: Tensor) -> Tensor:
    """Distance of the inner lips' middles (t,)."""
    return (landmarks[:, 62] - landmarks[:, 66]).norm(dim=-1)


def lid_opening(landmarks: Tensor) -> Tensor:
    """Aspect ratio of the eyes (t,)."""
    return eye_aspect_ratio(landmarks[..., :2])
