"""How often the face detector fails on generated frames, where distances cannot be measured."""

from __future__ import annotations

from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage


class DetectionMisses(ClipMetric):
    """Share of frames, in percent, in which the detector found no face in the generated picture."""

    higher_is_better = False
    needs = frozenset({"landmarks"})
    digits = 1
    column = "face missed[%]"

    def frame_values(self, footage: Footage) -> Tensor:
        """100 where the face was missed, else 0."""
        assert footage.generated_landmarks is not None  # by ``needs``
        return 100.0 * footage.generated_landmarks.isnan().any(dim=(1, 2)).double()
