"""Do lips flicker? The acceleration of their landmarks, against the truth's."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.footage import MOUTH_POINTS, Footage


def acceleration(landmarks: Tensor) -> Tensor:
    """Mean length of the second difference, pixels a frame²; (t, n, 2) → scalar, missed frames left out."""
    return landmarks.diff(n=2, dim=0).norm(dim=-1).nanmean()


class FlickerRatio(ClipStatistic):
    """Acceleration of the generated mouth's landmarks over the true: above 1 lips tremble, below 1 they are
    stiff. Frames that were made one by one tremble unless they were drawn from one noise.

    Independent of pixel size and frame rate.
    """

    higher_is_better = None
    needs = frozenset({"truth", "landmarks"})
    digits: ClassVar[int] = 2
    column = "flicker[mouth]"

    def frame_rows(self, footage: Footage) -> Tensor:
        """Generated, then true points (t, 80)."""
        generated, truth = footage.generated_landmarks, footage.ground_truth_landmarks
        assert generated is not None and truth is not None  # by ``needs``
        points = generated[:, MOUTH_POINTS], truth[:, MOUTH_POINTS]
        return torch.cat([one.flatten(1) for one in points], 1)

    def statistic(self, rows: Tensor) -> float:
        """The ratio of one clip; NaN for fewer than three frames in a row or a truth that stands still."""
        generated, truth = rows.view(len(rows), 2, -1, 2).unbind(1)
        true = float(acceleration(truth))
        return float(acceleration(generated)) / true if true > 1e-9 else float("nan")
