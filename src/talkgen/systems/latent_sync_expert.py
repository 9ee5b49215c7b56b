"""SwapTalk's VQ-Lip expert: does this speech belong to these latents?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from talkgen.errors import TalkgenError
from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE
from talkgen.losses.mouth_shape import MouthShapeLoss
from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.frozen import Frozen
from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.vqgan.vqgan import VQGAN
from talkgen.systems.augmentation import VoiceAugmentation
from talkgen.systems.contrastive_sync import ContrastiveSyncSystem, mel_vectors
from talkgen.systems.partials import OptimizerPartial, SchedulePartial


class LatentSyncExpertSystem(ContrastiveSyncSystem):
    """Train ``LatentSyncNet`` on codes of windows.

    Args:
        expert: the network.
        vqgan: trained; gives the latents of codes. Frozen here.
        augmentation: of the voice, in training.
        loss, optimizer, learning_rate, gradient_clip, stall_after, mouth_shape, mouth_weight, min_shift,
            distances: see ``ContrastiveSyncSystem``.
    """

    expert: LatentSyncNet

    def __init__(
        self,
        expert: LatentSyncNet,
        vqgan: VQGAN,
        loss: ShiftedInfoNCE | CosineBCELoss,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        gradient_clip: float = 1.0,
        stall_after: int = 1000,
        augmentation: VoiceAugmentation | None = None,
        mouth_shape: MouthShapeLoss | None = None,
        mouth_weight: float = 1.0,
        min_shift: int = 5,
        distances: Sequence[int] = (1, 2, 3, 4, 5),
    ) -> None:
        super().__init__(
            expert, loss, optimizer, learning_rate, gradient_clip, stall_after, mouth_shape, mouth_weight,
            min_shift, distances,
        )  # fmt: skip
        if expert.scale.dim != vqgan.dim:
            raise TalkgenError(
                f"the expert takes latents of {expert.scale.dim} channels, the VQGAN has {vqgan.dim}; "
                "were they made at the same size?"
            )
        expert.scale.set_from(codebook_vectors(vqgan))
        self.frozen_vqgan = Frozen(vqgan)
        self.augmentation = augmentation

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the mels ``(b, e)``, the lips ``(b, e)`` and the shifted mels ``(b, n, e)``."""
        augment = self.augmentation if self.training else None
        candidates = mel_vectors(batch, self.expert.embed_audio, augment)
        lips = self.expert.embed_face(lower_latents(self.vqgan, batch["codes"]))
        return candidates[:, 0], lips, candidates[:, 1:]

    @property
    def vqgan(self) -> VQGAN:
        """The frozen VQGAN."""
        network = self.frozen_vqgan.module
        assert isinstance(network, VQGAN)
        return network


def lower_latents(vqgan: VQGAN, codes: Tensor) -> Tensor:
    """Codes of windows ``(b, t, h, w)`` → latents of the lower halves ``(b, t, d, h/2, w)``."""
    latent: Tensor = vqgan.lookup(codes.flatten(0, 1))
    return latent.chunk(2, dim=2)[1].unflatten(0, codes.shape[:2])
