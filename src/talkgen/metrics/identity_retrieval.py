"""Would a recogniser pick the right person out of a gallery?"""

from __future__ import annotations

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage


class IdentityRetrieval(ClipMetric):
    """Top-1: share of frames, in percent, whose nearest picture of the gallery (cosine) is the wanted person.

    FaceShifter's protocol, as ReliableSwap's evaluation computes it. Chance is 100 / people: a number
    without the size of the gallery says nothing.

    Args:
        recogniser: its name, for the column.
    """

    higher_is_better = True
    needs = frozenset({"identity", "wanted"})
    digits = 1

    def __init__(self, recogniser: str) -> None:
        super().__init__()
        self.column = f"ID top-1[%,{recogniser}]"

    def frame_values(self, footage: Footage) -> Tensor:
        """100 where the wanted person is nearest, else 0; NaN where the recogniser was shown nothing."""
        assert footage.identities is not None and footage.gallery is not None  # by ``needs``
        assert footage.wanted is not None
        nearest = (footage.identities @ footage.gallery.T).argmax(1)
        right = 100.0 * nearest.eq(footage.wanted).double()
        return torch.where(footage.identities.isnan().any(1), torch.nan, right)
