"""What a sync expert on lips as numbers says of generated motion; nothing is rendered."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.experts.motion_syncnet import MotionSyncNet
from talkgen.models.experts.syncnet import FRAMES
from talkgen.models.frozen import Frozen


class MotionSyncLoss(nn.Module):
    """L = −log p, mean over all stretches of five frames; the gradient reaches the lips.

    p = cos(a, v) for an expert that ends in a ReLU, (1 + cos(a, v)) / 2 for one that does not.

    Args:
        expert: trained; frozen here, and left out of the holder's checkpoints.
    """

    def __init__(self, expert: MotionSyncNet) -> None:
        super().__init__()
        self.final_relu = expert.final_relu
        self.expert = Frozen(expert)

    def forward(self, mouth: Float[Tensor, "b t m"], heard: Float[Tensor, "b t a"]) -> Float[Tensor, ""]:
        """The loss of windows of any length from five frames on."""
        probability = self.agreement(mouth, heard)
        return -(probability.clamp_min(0) + 1e-4).log().mean()

    def agreement(self, mouth: Tensor, heard: Tensor) -> Float[Tensor, n]:
        """p of each stretch of five frames."""
        audio, lips = self.expert(_stretches(heard), _stretches(mouth))
        cosine: Tensor = (audio * lips).sum(1)
        return cosine if self.final_relu else (1 + cosine) / 2


def _stretches(x: Tensor) -> Tensor:
    """``(b, t, c)`` → all runs of five frames, ``(b · (t − 4), 5, c)``."""
    return x.unfold(1, FRAMES, 1).transpose(2, 3).flatten(0, 1)
