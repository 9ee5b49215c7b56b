"""DisentTalk's 3DMM sync expert: do these lips, as coefficients of a face model, belong to this sound?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from talkgen.errors import TalkgenError
from talkgen.face3d.motion_statistics import MotionStatistics
from talkgen.losses.lip_sync import CosineBCELoss, SameClip, ShiftedInfoNCE, every_cosine
from talkgen.models.disenttalk.motion_space import MotionSpace, MouthGeometry
from talkgen.models.experts.motion_syncnet import MotionSyncNet
from talkgen.systems.augmentation import FeatureAugmentation
from talkgen.systems.choices import Choices
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule
from talkgen.systems.sync_expert import StallWatch, clip_numbers, right_choices, sync_accuracy


class MotionSyncExpertSystem(LightningModule):
    """Train ``MotionSyncNet`` on windows of five frames: the other windows of a clip in a batch are each
    other's negatives (``data.windows_per_clip``).

    ``val/accuracy``: share of comparisons in which a held-out window's own sound scores higher than that of
    its clip ``min_shift`` frames away or farther; ``val/accuracy_3`` the same for exactly 3 frames. Both
    compare the windows of a batch, so validation wants windows that begin at every frame
    (``data.stride=1``).

    Args:
        expert: the network.
        space: what makes lips numbers of unit variance.
        statistics: of the corpus, which fill ``space``.
        loss: ``ShiftedInfoNCE`` (default) or ``CosineBCELoss``.
        optimizer: makes the optimiser from the parameters.
        geometry: what the expert sees of the lips.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        stall_after: batches after which a loss still at chance is reported; 0 never reports.
        augmentation: of what is heard, in training.
        min_shift: distance in frames from which on windows of a clip are negatives of each other.
        distances: in frames, of the accuracies that validation reports one by one.
    """

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
        super().__init__()
        space.set_from(statistics)
        self.expert = expert
        self.space = space
        self.loss = loss
        self.optimizer = optimizer
        self.geometry: MouthGeometry = geometry
        self.learning_rate = learning_rate
        self.gradient_clip = gradient_clip
        self.augmentation = augmentation
        self.min_shift = min_shift
        self.distances = tuple(distances)
        self.stall = StallWatch(stall_after)
        self.choices = Choices()

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Unit vectors of sound and lips, ``(b, e)`` each."""
        z = self.space.encode(batch["expression"], batch["rest"][:, None])
        heard = batch["heard"]
        if self.training and self.augmentation is not None:
            heard = self.augmentation(heard, clip_numbers(batch))
        audio, mouth = self.expert(heard, self.space.mouth(z, self.geometry))
        return audio, mouth

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One batch.

        Raises:
            TalkgenError: it holds no two windows of a clip.
        """
        same_clip = SameClip.of(clip_numbers(batch), batch["frame"], self.min_shift)
        if not self.stall.batches and not bool(same_clip.far.any()):
            raise TalkgenError(
                "a sync expert learns from sound of the same clip at other times, and the batches hold none: "
                "set data.windows_per_clip"
            )
        audio, mouth = self.embed(batch)
        none = audio.new_zeros(len(audio), 0, audio.shape[1])
        loss: Tensor = self.loss(audio, mouth, none, same_clip)
        self.log("train/sync", loss.detach(), prog_bar=True)
        with torch.no_grad():
            pairs = every_cosine(audio, mouth)
            self.log("train/accuracy", sync_accuracy(pairs.diagonal(), pairs, same_clip.far))
        self.stall.watch(loss.detach(), self.loss.chance(len(mouth), 0))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How well held-out windows are told from those of the same clip at other times."""
        audio, mouth = self.embed(batch)
        number, frame = clip_numbers(batch), batch["frame"]
        same_clip = SameClip.of(number, frame, self.min_shift)
        pairs = every_cosine(audio, mouth)
        right = right_choices(pairs.diagonal(), pairs)
        self.choices.note("accuracy", right[same_clip.far])
        away = (frame[:, None] - frame).abs()
        for distance in self.distances:
            self.choices.note(f"accuracy_{distance}", right[(number[:, None] == number) & (away == distance)])

    def on_validation_epoch_end(self) -> None:
        """The accuracies of which there were comparisons."""
        self.choices.log(self)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip by this system's own bound."""
        if self.gradient_clip:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")

    def configure_optimizers(self) -> Any:
        """One optimiser over the expert and what the loss learns (its temperature)."""
        trained = [p for module in (self.expert, self.loss) for p in module.parameters()]
        return with_schedule(self.optimizer(trained), self.learning_rate)
