"""Cosine similarity of identity: does the face look like the person it should show?"""

from __future__ import annotations

from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage


class CSIM(ClipMetric):
    """Mean over frames of cos(e(frame), e(picture of the wanted person)), e by a recognition network.

    The picture is the source of a swap; of an unswapped clip, one of the same person in another clip. Values
    of two recognisers do not compare; one that was a training loss flatters.

    Args:
        recogniser: its name, for the column.
    """

    higher_is_better = True
    needs = frozenset({"identity", "wanted"})

    def __init__(self, recogniser: str) -> None:
        super().__init__()
        self.column = f"CSIM[{recogniser}]"

    def frame_values(self, footage: Footage) -> Tensor:
        """Cosine of each frame."""
        assert footage.identities is not None and footage.gallery is not None  # by ``needs``
        assert footage.wanted is not None
        return footage.identities @ footage.gallery[footage.wanted]
