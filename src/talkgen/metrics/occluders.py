"""Things in front of a mouth: a microphone, a hand. Drawn plainly; what counts is that lips are hidden."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen.metrics.footage import MOUTH_POINTS

CHIN = 8  # iBUG-68
SKIN = (196, 150, 120)


def microphone(frames: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A black ball on a stick from below, which covers the lower lip: uint8 (t, h, w, 3) → the same."""
    drawn = frames.copy()
    for frame, points in zip(drawn, landmarks, strict=True):
        middle, width = _mouth(points)
        radius = max(2, round(0.38 * width))
        at = (round(middle[0]), round(middle[1] + 0.25 * width))
        end = (at[0] + round(0.3 * width), frame.shape[0] - 1)
        cv2.line(frame, at, end, (40, 40, 44), max(1, radius // 2), cv2.LINE_AA)
        cv2.circle(frame, at, radius, (24, 24, 28), -1, cv2.LINE_AA)
        cv2.circle(
            frame, (at[0] - radius // 3, at[1] - radius // 3), radius // 4, (90, 90, 96), -1, cv2.LINE_AA
        )
    return drawn


def hand(frames: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Four fingers across the whole mouth, which come from the side and rock a little."""
    drawn = frames.copy()
    for number, (frame, points) in enumerate(zip(drawn, landmarks, strict=True)):
        middle, width = _mouth(points)
        rock = 0.06 * width * np.sin(number / 4)
        thick = max(2, round(0.26 * width))
        for finger in range(4):
            y = middle[1] + (finger - 1.5) * 0.27 * width + rock
            tip = (round(middle[0] - 0.65 * width + 0.08 * width * abs(finger - 1)), round(y))
            palm = (round(middle[0] + 1.6 * width), round(y + 0.35 * width))
            cv2.line(frame, palm, tip, tuple(int(0.8 * c) for c in SKIN), thick + 2, cv2.LINE_AA)
            cv2.line(frame, palm, tip, SKIN, thick, cv2.LINE_AA)
    return drawn


def _mouth(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Middle of the mouth, and its width (at least a third of the face between mouth and chin)."""
    mouth = points[MOUTH_POINTS].astype(np.float64)
    middle = mouth.mean(0)
    width = float(np.ptp(mouth[:, 0]))
    return middle, max(width, float(np.linalg.norm(points[CHIN] - middle)) / 3, 4.0)
