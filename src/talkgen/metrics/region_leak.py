"""Do the lids move with what the lips should do, or the lips with the lids?"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.exact_motion import lid_opening, lip_opening, unposed_landmarks
from talkgen.metrics.footage import Footage
from talkgen.metrics.mouth_opening import pearson

Leak = Literal["lids,of lips", "lips,of lids"]


class RegionLeak(ClipStatistic):
    """|r| of one region's generated opening with the other region's exact one, × 100, once what its own exact
    opening explains is taken off both.

    0: the region does not know of the other. By chance alone it is about 100 / √n for n independent moments
    of a clip; a row with the corpus' own motion, fitted, shows how much the fit mixes regions.

    Args:
        leak: ``"lids,of lips"`` or ``"lips,of lids"``.
    """

    higher_is_better = False
    digits: ClassVar[int] = 1
    needs = frozenset({"motion"})

    def __init__(self, leak: Leak = "lids,of lips") -> None:
        super().__init__()
        if leak not in ("lids,of lips", "lips,of lids"):
            raise ValueError(f"a leak is 'lids,of lips' or 'lips,of lids', not {leak!r}")
        self.leak: Leak = leak
        self.column = f"region leak×100[{leak}]"

    def frame_rows(self, footage: Footage) -> Tensor:
        """Generated opening, its own exact one, the other region's (t, 3)."""
        motion = footage.motion
        assert motion is not None  # by ``needs``
        made, truth = (unposed_landmarks(motion.model, x) for x in (motion.generated, motion.truth))
        own, other = lid_opening, lip_opening
        if self.leak == "lips,of lids":
            own, other = other, own
        return torch.stack([own(made), own(truth), other(truth)], 1).double()

    def statistic(self, rows: Tensor) -> float:
        """Of one clip; NaN with fewer than three frames."""
        if len(rows) < 3:
            return float("nan")
        made, own, other = rows.T
        return 100 * abs(pearson(without(made, own), without(other, own)))


def without(series: Tensor, cause: Tensor) -> Tensor:
    """A series (n,) less its mean and what a linear function of another one explains."""
    centred, cause = series - series.mean(), cause - cause.mean()
    power = cause @ cause
    return centred - cause * (centred @ cause) / power if power > 0 else centred
