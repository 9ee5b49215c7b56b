"""DisentTalk's 3DMM sync expert: do these lips, as coefficients of a face model, belong to this sound?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from talkgen.face3d.motion_statistics import MotionStatistics
from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE
from talkgen.models.disenttalk.motion_space import MotionSpace, MouthGeometry
from talkgen.models.experts.motion_syncnet import MotionSyncNet
from talkgen.systems.augmentation import FeatureAugmentation
from talkgen.systems.contrastive_sync import ContrastiveSyncSystem, clip_numbers
from talkgen.systems.partials import OptimizerPartial, SchedulePartial


class MotionSyncExpertSystem(ContrastiveSyncSystem):
    """Train ``MotionSyncNet`` on windows of five frames: the other windows of a clip in a batch are each
    other's negatives (``data.windows_per_clip``).

    Args:
        expert: the network.
        space: what makes lips numbers of unit variance.
        statistics: of the corpus, which fill ``space``.
        geometry: what the expert sees of the lips.
        augmentation: of what is heard, in training.
        loss, optimizer, learning_rate, gradient_clip, stall_after, min_shift, distances: see
            ``ContrastiveSyncSystem``.
    """

    cure = "data.windows_per_clip"
    expert: MotionSyncNet

    def __init__(
        self,
        expert: MotionSyncNet,
        space: MotionSpace,
        statistics: MotionStatistics,
        loss: ShiftedInfoNCE | CosineBCELoss,
        optimizer: OptimizerPartial,
        geometry: MouthGeometry = "subspace",
        learning_rate: SchedulePartial | None = None,
        gradient_clip: float = 1.0,
        stall_after: int = 1000,
        augmentation: FeatureAugmentation | None = None,
        min_shift: int = 5,
        distances: Sequence[int] = (1, 2, 3, 4, 5),
    ) -> None:
        super().__init__(
            expert,
            loss,
            optimizer,
            learning_rate,
            gradient_clip,
            stall_after,
            None,
            0.0,
            min_shift,
            distances,
        )
        space.set_from(statistics)
        self.space = space
        self.geometry: MouthGeometry = geometry
        self.augmentation = augmentation

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of sound and lips, ``(b, e)`` each, and no shifted sound ``(b, 0, e)``."""
        z = self.space.encode(batch["expression"], batch["rest"][:, None])
        heard = batch["heard"]
        if self.training and self.augmentation is not None:
            heard = self.augmentation(heard, clip_numbers(batch))
        audio, mouth = self.expert(heard, self.space.mouth(z, self.geometry))
        return audio, mouth, audio.new_zeros(len(audio), 0, audio.shape[1])
