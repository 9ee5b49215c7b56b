"""Videos of a red square, and backends that take it for a face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.video.writer import VideoWriter

FACE = (220, 40, 40)  # colour of the square that the detector of these tests takes for a face
SIZE = 160


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that comes and goes four times a second."""
    time_ = np.arange(int(seconds * 16000)) / 16000
    noise = np.random.default_rng(seed).normal(size=len(time_))
    return (0.2 * noise * (np.sin(2 * np.pi * 4 * time_) > -0.5)).astype(np.float32)


def film(
    file: Path,
    frames: int,
    fps: float = 25.0,
    face: Callable[[int], tuple[int, int, int] | None] = lambda k: (40 + k % 20, 50, 60),
    sound: np.ndarray | None = None,
    ground: Callable[[int], int] = lambda k: 90,
) -> Path:
    """A video of a red square `(x, y, side)`, of which a quarter is patterned so that it is sharp."""
    file.parent.mkdir(parents=True, exist_ok=True)
    audio = None if sound is None else (sound, 16000)
    with VideoWriter(file, fps, SIZE, SIZE, audio=audio, crf=12, preset="ultrafast") as writer:
        for number in range(frames):
            picture = np.full((SIZE, SIZE, 3), ground(number), np.uint8)
            picture[:, :8] = number % 250
            if (place := face(number)) is not None:
                x, y, side = place
                picture[y : y + side, x : x + side] = FACE
                picture[y + side // 4 : y + side // 2 : 4, x + 8 : x + side - 8] = (255, 90, 90)
            writer.write(picture)
    return file


def face_points(box: np.ndarray) -> np.ndarray:
    """Five keypoints as they sit in a frontal face."""
    side = box[2] - box[0]
    return (box[:2] + (ARCFACE_TEMPLATE - [11, 1]) / 110 * side).astype(np.float32)


class SquareDetector:
    """Finds the red square."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        red = (frame[..., 0] > 170) & (frame[..., 1] < 130) & (frame[..., 2] < 130)
        if red.sum() < 100:
            return []
        ys, xs = np.nonzero(red)
        box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
        return [Face(box, 0.9, face_points(box))]


class SquareLandmarker:
    """68 points on the diagonal of the box, but for the eyes."""

    def landmarks(self, frame: np.ndarray, face: Face) -> np.ndarray:
        return np.linspace(face.box[:2], face.box[2:], 68).astype(np.float32)
