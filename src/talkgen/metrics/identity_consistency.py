"""Does a face stay the same person over a clip? SwapTalk's "Consistency" has no published formula."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.footage import Footage

Pairing = Literal["pairs", "adjacent", "first", "source"]


class IdentityConsistency(ClipStatistic):
    """100 × the mean cosine of identity vectors over the frames of a clip.

    Readings of the word, each with its own name:

    - ``pairs``: of every two frames of the clip;
    - ``adjacent``: of every frame and the next;
    - ``first``: of the first frame and every other;
    - ``source``: of every frame and the picture of the wanted person (100 × CSIM).

    Args:
        pairing: one of these.
        recogniser: its name, for the column.
    """

    higher_is_better = True
    digits: ClassVar[int] = 1

    def __init__(self, pairing: Pairing, recogniser: str) -> None:
        super().__init__()
        if pairing not in ("pairs", "adjacent", "first", "source"):
            raise ValueError(f"pairing is pairs, adjacent, first or source, not {pairing!r}")
        self.pairing: Pairing = pairing
        self.needs = frozenset({"identity", "wanted"} if pairing == "source" else {"identity"})
        self.column = f"consistency[{pairing},{recogniser}]"

    def frame_rows(self, footage: Footage) -> Tensor:
        """The vectors (t, d); for ``source``, cosines (t, 1)."""
        assert footage.identities is not None  # by ``needs``
        if self.pairing != "source":
            return footage.identities
        assert footage.gallery is not None and footage.wanted is not None
        return (footage.identities @ footage.gallery[footage.wanted])[:, None]

    def statistic(self, rows: Tensor) -> float:
        """The mean of one clip; NaN with fewer than two frames."""
        rows = rows[~rows.isnan().any(1)]
        count = len(rows)
        if self.pairing == "source":
            return 100 * float(rows.mean()) if count else float("nan")
        if count < 2:
            return float("nan")
        if self.pairing == "pairs":
            # |Σ e|² = Σ |e|² + Σ of all ordered pairs
            total = rows.sum(0).square().sum() - rows.square().sum()
            return 100 * float(total / (count * (count - 1)))
        other = rows[:-1] if self.pairing == "adjacent" else rows[:1]
        return 100 * float(torch.sum(rows[1:] * other, 1).mean())
