"""Do landmarks tremble? Jerk is the third derivative of their places."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.footage import Footage


def jerk(landmarks: Tensor, fps: float = 25.0) -> Tensor:
    """Mean length of the third difference × fps³, in pixels / s³; (t, n, 2) → scalar, missed frames left out.

    Differences amplify a detector's noise: 0.8 px of it triple the jerk of a real face.
    """
    return landmarks.diff(n=3, dim=0).norm(dim=-1).nanmean() * fps**3


class JerkRatio(ClipStatistic):
    """Jerk of the generated landmarks over the true: above 1 a face trembles, below 1 it is stiff.

    Independent of pixel size and frame rate.
    """

    higher_is_better = None
    needs = frozenset({"truth", "landmarks"})
    digits: ClassVar[int] = 2
    column = "jerk ratio[68 points]"

    def frame_rows(self, footage: Footage) -> Tensor:
        """Generated, then true points (t, 272)."""
        generated, truth = footage.generated_landmarks, footage.ground_truth_landmarks
        assert generated is not None and truth is not None  # by ``needs``
        return torch.cat([generated.flatten(1), truth.flatten(1)], 1)

    def statistic(self, rows: Tensor) -> float:
        """The ratio of one clip; NaN for fewer than four frames in a row or a truth that stands still."""
        generated, truth = rows.view(len(rows), 2, -1, 2).unbind(1)
        true = float(jerk(truth))
        return float(jerk(generated)) / true if true > 1e-9 else float("nan")
