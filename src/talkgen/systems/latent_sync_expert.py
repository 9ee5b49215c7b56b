"""SwapTalk's VQ-Lip expert: does this speech belong to these latents?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from talkgen.errors import TalkgenError
from talkgen.losses.lip_sync import CosineBCELoss, SameClip, ShiftedInfoNCE, cosines, every_cosine
from talkgen.losses.mouth_shape import MouthShapeLoss
from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.frozen import Frozen
from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.vqgan.vqgan import VQGAN
from talkgen.systems.augmentation import VoiceAugmentation
from talkgen.systems.choices import Choices
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule
from talkgen.systems.sync_expert import StallWatch, clip_numbers, right_choices, sync_accuracy


class LatentSyncExpertSystem(LightningModule):
    """Train ``LatentSyncNet`` on codes: windows of clips whose other windows in the batch are its negatives
    (and mels at other times, where a batch has ``shifted_mel``).

    ``val/accuracy`` is the share of comparisons in which a held-out window's own mel scores higher than the
    mel of its clip ``min_shift`` frames away or farther; ``val/accuracy_3`` is that for exactly 3 frames,
    early or late (chance is 0.5). Both compare the windows of a batch with each other, so validation wants
    windows that begin at every frame, in order (``data.window.stride=1``).

    Args:
        expert: the network.
        vqgan: trained; gives the latents of codes. Frozen here.
        loss: ``ShiftedInfoNCE`` (default), or ``CosineBCELoss`` as published for pixels.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        stall_after: batches after which a loss still at chance is reported; 0 never reports.
        augmentation: of the voice, in training.
        mouth_shape: a further loss that shows the encoders where to look; None leaves it out.
        mouth_weight: its weight.
        min_shift: distance in frames from which on windows of a clip are negatives of each other; nearer ones
            are left out.
        distances: in frames, of the accuracies that validation reports one by one.
    """

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
        super().__init__()
        if expert.scale.dim != vqgan.dim:
            raise TalkgenError(
                f"the expert takes latents of {expert.scale.dim} channels, the VQGAN has {vqgan.dim}; "
                "were they made at the same size?"
            )
        expert.scale.set_from(codebook_vectors(vqgan))
        self.expert = expert
        self.frozen_vqgan = Frozen(vqgan)
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.gradient_clip = gradient_clip
        self.augmentation = augmentation
        self.mouth_shape = mouth_shape
        self.mouth_weight = mouth_weight
        self.min_shift = min_shift
        self.distances = tuple(distances)
        self.stall = StallWatch(stall_after)
        self.choices = Choices()

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the mels ``(b, e)``, the lips ``(b, e)`` and the shifted mels ``(b, n, e)``."""
        mels = batch["mel"].unsqueeze(1)
        if "shifted_mel" in batch:
            mels = torch.cat([mels, batch["shifted_mel"]], dim=1)
        if self.training and self.augmentation is not None:
            mels = self.augmentation(mels, clip_numbers(batch))
        candidates = self.expert.embed_audio(mels.flatten(0, 1)).unflatten(0, mels.shape[:2])
        return (
            candidates[:, 0],
            self.expert.embed_face(lower_latents(self.vqgan, batch["codes"])),
            candidates[:, 1:],
        )

    @property
    def vqgan(self) -> VQGAN:
        """The frozen VQGAN."""
        network = self.frozen_vqgan.module
        assert isinstance(network, VQGAN)
        return network

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One batch.

        Raises:
            TalkgenError: it holds no audio of the same clip at another time.
        """
        same_clip = SameClip.of(clip_numbers(batch), batch["frame"], self.min_shift)
        if "shifted_mel" not in batch and not self.stall.batches and not bool(same_clip.far.any()):
            raise TalkgenError(
                "a sync expert learns from sound of the same clip at other times, and the batches hold none: "
                "set data.window.shifted_mels or data.windows_per_clip"
            )
        audio, face, shifted = self.embed(batch)
        loss: Tensor = self.loss(audio, face, shifted, same_clip)
        self.log("train/sync", loss.detach(), prog_bar=True)
        with torch.no_grad():
            pairs = every_cosine(audio, face)
            self.log("train/accuracy", sync_accuracy(pairs.diagonal(), pairs, same_clip.far))
        total = loss
        if self.mouth_shape is not None:
            shape = self.mouth_shape(audio, face, batch["landmarks"])
            self.log("train/mouth_shape", shape.detach())
            total = loss + self.mouth_weight * shape
        self.stall.watch(loss.detach(), self.loss.chance(len(face), shifted.shape[1]))
        return total

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How well held-out windows are told from those of the same clip at other times."""
        audio, face, shifted = self.embed(batch)
        number, frame = clip_numbers(batch), batch["frame"]
        same_clip = SameClip.of(number, frame, self.min_shift)
        self.log("val/sync", self.loss(audio, face, shifted, same_clip), batch_size=len(face), sync_dist=True)
        pairs = every_cosine(audio, face)
        right = right_choices(pairs.diagonal(), pairs)
        self.choices.note("accuracy", right[same_clip.far])
        if "shift" in batch:
            together, apart = cosines(audio, face, shifted)
            chosen = right_choices(together, apart)
            self.choices.note("accuracy", chosen[batch["shift"].abs() >= self.min_shift])
        away = (frame[:, None] - frame).abs()
        for distance in self.distances:
            apart_by = (number[:, None] == number) & (away == distance)
            self.choices.note(f"accuracy_{distance}", right[apart_by])

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
        """One optimiser over the expert and what the losses learn (temperature, heads)."""
        trained = [self.expert, self.loss, *([self.mouth_shape] if self.mouth_shape is not None else [])]
        optimizer = self.optimizer([p for module in trained for p in module.parameters()])
        return with_schedule(optimizer, self.learning_rate)


def lower_latents(vqgan: VQGAN, codes: Tensor) -> Tensor:
    """Codes of windows ``(b, t, h, w)`` → latents of the lower halves ``(b, t, d, h/2, w)``."""
    latent: Tensor = vqgan.lookup(codes.flatten(0, 1))
    return latent.chunk(2, dim=2)[1].unflatten(0, codes.shape[:2])
