"""3DDFA_V2 (Guo et al. 2020): head pose, shape and expression of a face from one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen import weights
from talkgen.errors import FileError
from talkgen.models.experts.array_pickle import read_arrays

SIZE = 120
"""Width and height of what the network sees."""
POSE, SHAPE, EXPRESSION = slice(0, 12), slice(12, 52), slice(52, 62)
"""Places of the 62 coefficients: a 3×4 camera, 40 of identity, 10 of expression."""


@dataclass(frozen=True)
class FaceCoefficients:
    """Attributes:

    angles: yaw, pitch, roll in degrees, (t, 3).
    shape: (t, 40).
    expression: (t, 10).
    """

    angles: NDArray[np.float64]
    shape: NDArray[np.float64]
    expression: NDArray[np.float64]


def crop_face(frame: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The square that the network was trained on, around a detector's box x0 y0 x1 y1: (120, 120, 3)."""
    x0, y0, x1, y1 = (float(side) for side in box)
    mean = (x1 - x0 + y1 - y0) / 2
    size = int(mean * 1.58)
    x, y = (x0 + x1 - size) / 2, (y0 + y1 - size) / 2 + mean * 0.14
    left, top, right, bottom = (round(side) for side in (x, y, x + size, y + size))
    square = np.zeros((max(bottom - top, 1), max(right - left, 1), 3), np.uint8)
    height, width = frame.shape[:2]
    inside = frame[max(top, 0) : max(min(bottom, height), 0), max(left, 0) : max(min(right, width), 0)]
    row, column = max(-top, 0), max(-left, 0)
    square[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return np.asarray(cv2.resize(square, (SIZE, SIZE)), np.uint8)


def head_angles(camera: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cameras (t, 3, 4), scaled rotations with a shift → yaw, pitch, roll in degrees (t, 3)."""
    first, second = (
        camera[:, row, :3] / np.linalg.norm(camera[:, row, :3], axis=1)[:, None] for row in (0, 1)
    )
    third = np.cross(first, second)
    yaw = np.arcsin(np.clip(third[:, 0], -1, 1))
    pitch = np.arctan2(third[:, 1], third[:, 2])
    roll = np.arctan2(second[:, 0], first[:, 0])
    return np.degrees(np.stack([yaw, pitch, roll], 1)).astype(np.float64)


class TDDFA:
    """The published network, run by ONNX Runtime.

    Raises:
        MissingWeights: ``tddfa_mb1`` or ``tddfa_mean_std`` is not on this machine.
        FileError: the file of means is another one.
    """

    def __init__(self, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = weights.find("tddfa_mb1")
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.mean, self.deviation = _statistics(weights.find("tddfa_mean_std"))

    def __call__(self, frames: NDArray[np.uint8], boxes: NDArray[np.floating]) -> FaceCoefficients:
        """uint8 RGB (t, h, w, 3) and boxes (t, 4) → coefficients; NaN where the box is."""
        found = np.full((len(frames), len(self.mean)), np.nan)
        for row, frame, box in zip(found, frames, boxes, strict=True):
            if np.isfinite(box).all():
                bgr = crop_face(frame, box)[..., ::-1].transpose(2, 0, 1)[None]
                image = (bgr.astype(np.float32) - 127.5) / 128
                row[:] = self.session.run(None, {self.input: image})[0][0] * self.deviation + self.mean
        return FaceCoefficients(
            head_angles(found[:, POSE].reshape(-1, 3, 4)), found[:, SHAPE], found[:, EXPRESSION]
        )


def _statistics(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    try:
        arrays = read_arrays(file)
        mean, deviation = (np.asarray(arrays[name], np.float64).ravel() for name in ("mean", "std"))
    except KeyError as error:
        raise FileError(file, f"does not hold the means of 3DDFA_V2 ({error} is missing)") from error
    if len(mean) != EXPRESSION.stop:
        raise FileError(file, f"holds {len(mean)} means, 3DDFA_V2 has {EXPRESSION.stop} coefficients")
    return mean, deviation
