"""Blinks, read off the eyes' aspect ratio."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import find_peaks
from torch import Tensor

from talkgen.faces.ibug import LEFT_EYE, RIGHT_EYE
from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.footage import Footage

Detector = Literal["fixed", "peaks"]

THRESHOLD = 0.2
"""Below it eyes count as shut for the fixed detector (Soukupová & Čech 2016)."""
LEAST_FRAMES = 2
PROMINENCE = 0.08
"""How far the ratio must dip for the other detector: eyes that are narrow by nature do not blink always."""
SHUT_SHARE = 0.7
"""Eyes count as shut below this share of their own open ratio (its 95th percentile)."""


def eye_aspect_ratio(landmarks: Tensor) -> Tensor:
    """(|p1 − p5| + |p2 − p4|) / (2 |p0 − p3|), mean of both eyes: (t, 68, 2) → (t,)."""
    return torch.stack([_ratio(landmarks[:, eye]) for eye in (LEFT_EYE, RIGHT_EYE)]).mean(0)


def _ratio(eye: Tensor) -> Tensor:
    height = (eye[:, 1] - eye[:, 5]).norm(dim=-1) + (eye[:, 2] - eye[:, 4]).norm(dim=-1)
    return height / (2 * (eye[:, 0] - eye[:, 3]).norm(dim=-1))


def count_runs_below(
    ratio: NDArray[np.floating], threshold: float = THRESHOLD, least_frames: int = LEAST_FRAMES
) -> int:
    """Runs of at least so many frames below a threshold; a missed frame (NaN) ends a run."""
    below = np.concatenate([[False], ratio < threshold, [False]])
    edges = np.flatnonzero(below[1:] != below[:-1])
    return int((edges[1::2] - edges[::2] >= least_frames).sum())


def count_dips(ratio: NDArray[np.floating], prominence: float = PROMINENCE) -> int:
    """Dips of at least this prominence; missed frames (NaN) are filled in linearly."""
    known = np.isfinite(ratio)
    if not known.any():
        return 0
    places = np.arange(len(ratio))
    filled = np.interp(places, places[known], ratio[known])
    return len(find_peaks(-filled, prominence=prominence)[0])


class _Eyes(ClipStatistic):
    """Keeps the generated and the true ratio of each frame; the truth is what the target's eyes do."""

    needs = frozenset({"landmarks"})

    def frame_rows(self, footage: Footage) -> Tensor:
        """Generated and true ratio (t, 2)."""
        true = footage.target_landmarks
        if true is None:
            true = footage.ground_truth_landmarks
        assert true is not None and footage.generated_landmarks is not None  # by ``needs``
        return torch.stack([eye_aspect_ratio(p.double()) for p in (footage.generated_landmarks, true)], 1)


class BlinkRate(_Eyes):
    """Blinks a second. People blink 0.28 to 0.4 times a second; a short clip may well hold none.

    Args:
        detector: ``"fixed"``: below 0.2 for two frames; ``"peaks"``: a dip by 0.08, whatever the eyes' shape.
        fps: frames a second.
    """

    higher_is_better: bool | None = None
    digits: ClassVar[int] = 2

    def __init__(self, detector: Detector = "peaks", fps: float = 25.0) -> None:
        super().__init__()
        if detector not in ("fixed", "peaks"):
            raise ValueError(f"detector is fixed or peaks, not {detector!r}")
        self.detector: Detector = detector
        self.fps = fps
        self.column = f"blinks/s[{detector}]"

    def rate(self, ratio: Tensor) -> float:
        """Of one series; NaN where no frame is known."""
        values = ratio.numpy()
        if not np.isfinite(values).any():
            return float("nan")
        count = count_runs_below(values) if self.detector == "fixed" else count_dips(values)
        return count * self.fps / len(values)

    def statistic(self, rows: Tensor) -> float:
        """The generated rate of one clip."""
        return self.rate(rows[:, 0])


class BlinkRateError(BlinkRate):
    """|generated − true| blinks a second."""

    higher_is_better = False

    def __init__(self, detector: Detector = "peaks", fps: float = 25.0) -> None:
        super().__init__(detector, fps)
        self.column = f"blink rate error[{detector}]"

    def statistic(self, rows: Tensor) -> float:
        """The error of one clip."""
        return abs(self.rate(rows[:, 0]) - self.rate(rows[:, 1]))


class EyesShut(_Eyes):
    """Share of frames, in percent, with eyes below 0.7 of their own open ratio."""

    higher_is_better = None
    digits: ClassVar[int] = 1
    column = "eyes shut[%]"

    def statistic(self, rows: Tensor) -> float:
        """The share of one clip; NaN where no frame is known."""
        ratio = rows[:, 0][~rows[:, 0].isnan()]
        if not len(ratio):
            return float("nan")
        return 100 * float((ratio < SHUT_SHARE * ratio.quantile(0.95)).double().mean())
