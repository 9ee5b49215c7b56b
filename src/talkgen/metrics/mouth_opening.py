"""Does the mouth open when it should, and as far?

The opening is the gap between the inner lips in distances between the eyes, so that it does not depend on the
size of the face. It is read off the landmarks that one detector finds on generated and on true frames.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from talkgen.faces.ibug import mouth_opening
from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.footage import Footage

Truth = Literal["detected", "corpus"]
LEAST_FRAMES = 8  # of a clip, for a correlation


def opening(landmarks: Tensor) -> Tensor:
    """Landmarks (t, 68, 2) → opening (t,) in distances between the eyes; NaN where a face was missed."""
    return torch.from_numpy(mouth_opening(landmarks.cpu().numpy()))


def pearson(x: Tensor, y: Tensor) -> float:
    """Pearson's correlation of two series (t,), over the places where neither is NaN.

    Returns:
        0 where ``x`` does not vary (what stands still follows nothing); NaN where ``y`` does not, or fewer
        than ``LEAST_FRAMES`` places are left.
    """
    known = ~(x.isnan() | y.isnan())
    x, y = x[known].double(), y[known].double()
    if len(x) < LEAST_FRAMES or float(y.std(correction=0)) < 1e-9:
        return float("nan")
    if float(x.std(correction=0)) < 1e-9:
        return 0.0
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


class _Opening(ClipStatistic):
    """Keeps the generated and the true opening of each frame.

    Args:
        truth: what the mouth should do: as ``"detected"`` on the target's own frames, or by the landmarks
            that are stored with the ``"corpus"``. Those of the demo corpus are exact, and the row of ground
            truth then says what the detector can reach; those of other corpora are of the detector that
            prepared them.
    """

    def __init__(self, truth: Truth = "detected") -> None:
        super().__init__()
        if truth not in ("detected", "corpus"):
            raise ValueError(f"truth is detected or corpus, not {truth!r}")
        self.truth: Truth = truth
        self.needs = frozenset({"landmarks", "corpus"} if truth == "corpus" else {"landmarks"})

    def frame_rows(self, footage: Footage) -> Tensor:
        """Generated and true opening (t, 2)."""
        true = footage.corpus_landmarks
        if self.truth == "detected":
            true = footage.target_landmarks
            if true is None:
                true = footage.ground_truth_landmarks
        assert true is not None and footage.generated_landmarks is not None  # by ``needs``
        return torch.stack([opening(footage.generated_landmarks), opening(true)], dim=1)


class MouthOpeningCorrelation(_Opening):
    """Pearson's r between the generated and the true opening over the frames of a clip; mean over clips.

    1: the mouth opens and closes with the truth; 0: independent of it. With the sound of another clip it
    should be near 0, else the model reads the answer from the picture.
    """

    higher_is_better = True

    def __init__(self, truth: Truth = "detected") -> None:
        super().__init__(truth)
        self.column = "mouth opening r" if truth == "detected" else "mouth opening r[stored landmarks]"

    def statistic(self, rows: Tensor) -> float:
        """r of one clip."""
        return pearson(rows[:, 0], rows[:, 1])


class MouthOpeningAmplitude(_Opening):
    """Standard deviation of the generated opening over that of the true one; 1 is right, below 1 mumbles."""

    higher_is_better = None
    digits: ClassVar[int] = 2

    def __init__(self, truth: Truth = "detected") -> None:
        super().__init__(truth)
        self.column = "mouth amplitude" if truth == "detected" else "mouth amplitude[stored landmarks]"

    def statistic(self, rows: Tensor) -> float:
        """The ratio of one clip."""
        known = rows[~rows.isnan().any(1)]
        if len(known) < LEAST_FRAMES:
            return float("nan")
        generated, true = known.std(0, correction=0).tolist()
        return generated / true if true > 1e-9 else float("nan")
