"""What is measured on a clip while it is prepared, and the limits beyond which it is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

_BLUR_SIZE = 128  # pixels to which a crop is brought, so that sharpness does not depend on its size


@dataclass(frozen=True)
class FilterSettings:
    """Limits; a clip beyond any of them goes to rejects.csv with the measured value.

    Attributes:
        min_seconds: least length.
        min_face_found: least share of frames in which the face was found.
        min_face_pixels: least height of the face in the source video, median over frames.
        max_yaw_degrees: greatest turn of the head, median over frames, estimated from five points.
        min_sharpness: least `sharpness` of the crops, median over frames; 0 lets everything pass.
        min_speech_ratio: least share of time with speech; 0 lets silence pass.
        max_av_offset_frames: greatest distance of sound and picture either way, where an expert measures it.
        min_av_confidence: least confidence of that expert, whose scale is its own; below it the offset is a
            guess, and a guess should not move the sound.
    """

    min_seconds: float = 1.0
    min_face_found: float = 0.8
    min_face_pixels: float = 48.0
    max_yaw_degrees: float = 45.0
    min_sharpness: float = 2.0
    min_speech_ratio: float = 0.2
    max_av_offset_frames: float = 5.0
    min_av_confidence: float = 0.0

    def fault(self, checks: Mapping[str, float]) -> tuple[str, str] | None:
        """Stage and reason of the first limit that a measure is beyond; None where all is well."""
        for name, limit, sense, what in (
            ("face_found_ratio", self.min_face_found, 1, "face found in a share of {:.2f} of the frames"),
            ("face_size_pixels", self.min_face_pixels, 1, "face of {:.0f} pixels"),
            ("yaw_degrees", self.max_yaw_degrees, -1, "head turned by {:.0f} degrees"),
            ("sharpness", self.min_sharpness, 1, "sharpness {:.2f}"),
            ("speech_ratio", self.min_speech_ratio, 1, "speech in a share of {:.2f} of the time"),
            ("av_offset_frames", self.max_av_offset_frames, -1, "sound early by {:.1f} frames"),
            ("av_confidence", self.min_av_confidence, 1, "sync confidence {:.2f}"),
        ):
            value = checks.get(name)
            if value is None:
                continue
            beyond = value < limit if sense > 0 else abs(value) > limit
            if beyond:
                word = "at least" if sense > 0 else "at most"
                return name, f"{what.format(value)}, should be {word} {limit:g}"
        return None


def yaw_degrees(keypoints: np.ndarray) -> np.ndarray:
    """How far a head is turned to the side, `(..., 5, 2)` points → degrees `(...)`, 0 from the front.

    The tip of the nose stands about half an eye distance before the plane of the eyes and mouth, so that a
    turn by θ moves it off their middle by ½ tan θ eye distances as seen. Good to about 10 degrees.
    """
    left, right, nose = keypoints[..., 0, :], keypoints[..., 1, :], keypoints[..., 2, :]
    middle = keypoints[..., [0, 1, 3, 4], :].mean(-2)
    across = right - left
    width = np.maximum(np.linalg.norm(across, axis=-1), 1e-6)
    offset = ((nose - middle) * across).sum(-1) / width**2
    return np.degrees(np.arctan(2 * offset))


def sharpness(crop: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the brightness at 128 pixels, uint8 RGB `(h, w, 3)` → grey
    levels.

    A face in focus has about 5 to 20, one that was enlarged from a few pixels about 1.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_BLUR_SIZE, _BLUR_SIZE), interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(small, cv2.CV_32F).std())
