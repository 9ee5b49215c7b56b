"""What a latent sync expert says of generated lips; nothing is decoded."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.frozen import Frozen


class LatentSyncLoss(nn.Module):
    """L_sync(VQ-LipExpert(T̂^B, audio)) = −log p; the gradient reaches the lower halves.

    p = cos(a, v) for an expert that ends in a ReLU, (1 + cos(a, v)) / 2 for one that does not
    (``talkgen.losses.lip_sync.SyncLoss`` is the same on pictures).

    Args:
        expert: trained; frozen here, and left out of the holder's checkpoints.
    """

    def __init__(self, expert: LatentSyncNet) -> None:
        super().__init__()
        self.final_relu = expert.final_relu
        self.expert = Frozen(expert)

    def forward(
        self, lower: Float[Tensor, "b 5 d u w"], mel: Float[Tensor, "b 1 80 16"]
    ) -> Float[Tensor, ""]:
        """The loss, from lower halves (quantised or regressed) and the mel window that covers them."""
        audio, face = self.expert(mel, lower)
        cosine = (audio * face).sum(1)
        probability = cosine if self.final_relu else (1 + cosine) / 2
        return -(probability + 1e-4).log().mean()  # steep but finite where the cosine is 0
