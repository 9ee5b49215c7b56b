"""How far generated expression coefficients are from the exact ones of a rendered corpus."""

from __future__ import annotations

import torch
from torch import Tensor

from talkgen.face3d.coefficients import EXPRESSION
from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.exact_motion import head_of
from talkgen.metrics.footage import Footage


class CoefficientError(ClipMetric):
    """Root mean square over the expression coefficients of (generated − exact) / σ, mean over frames.

    σ is how far the morphable model says that a coefficient usually goes. Lids and brows, which a sound does
    not determine, are in it; see ``PhonemeError`` for the lips alone.
    """

    higher_is_better = False
    needs = frozenset({"motion"})
    column = "coefficient error[expression,σ]"

    def frame_values(self, footage: Footage) -> Tensor:
        """Of each frame."""
        motion = footage.motion
        assert motion is not None  # by ``needs``
        deviation = torch.from_numpy(head_of(motion.model).expression_deviation)
        difference = (motion.generated[:, EXPRESSION] - motion.truth[:, EXPRESSION]).double() / deviation
        return difference.square().mean(1).sqrt()
