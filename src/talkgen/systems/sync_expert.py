"""The lip-sync expert: does this speech belong to these lips?"""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from talkgen.errors import TalkgenError
from talkgen.losses.lip_sync import CosineBCELoss, SameClip, ShiftedInfoNCE, shifted_cosines
from talkgen.losses.mouth_shape import MouthShapeLoss
from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet, syncnet_input
from talkgen.systems.augmentation import BoxAugmentation, VoiceAugmentation
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule

log = logging.getLogger(__name__)

STALL_CAUSES = (
    "In the order in which users found them: (1) too little variety in a batch: raise data.batch_size (64 "
    "or more), data.window.shifted_mels, or data.windows_per_clip; (2) too few or too short clips: "
    "thousands of windows of dozens of people are needed; (3) sound and picture are apart: look at the "
    "clips' av_offset_frames in the manifest and drop those beyond ±1 frame; (4) mouths are not where the "
    "crop expects them: look at the store's contact sheet; (5) the same video several times under "
    "different names gives false negatives: remove duplicates; (6) the published BCE recipe leaves this "
    "plateau only after 150,000 steps or so: use InfoNCE (system=sync_expert), a learning rate of 1e-4 or "
    "lower, and more steps"
)


class SyncExpertSystem(LightningModule):
    """Train SyncNet on windows of one clip and mels of the same clip at other times.

    The mels at other times come with the batch (``WindowSettings.shifted_mels``), or are those of the other
    windows of the clip in it (``TalkingFaceData.windows_per_clip``), which cost nothing to encode. The audio
    of all candidates goes through the encoder at once, so that batch normalisation cannot tell in-sync from
    shifted mels by the batch they come in.

    ``val/accuracy`` is the share of comparisons in which the own mel of a held-out window scores higher than
    a mel of the same clip that is shifted by at least ``min_shift`` frames (chance is 0.5).

    Args:
        expert: the network.
        loss: ``ShiftedInfoNCE`` (default), or ``CosineBCELoss`` as published.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        stall_after: batches after which a loss still at chance is reported; 0 never reports.
        channel_order: see ``syncnet_input``.
        view: what the expert sees of a window; None shows whole pictures.
        augmentation: of the voice, in training.
        box: of the box that the view cuts, in training; without a view it does nothing.
        mouth_shape: a further loss that shows the encoders where to look; None leaves it out.
        mouth_weight: its weight.
        min_shift: distance in frames from which on windows of a clip in one batch are negatives of each
            other; nearer ones are left out.
    """

    def __init__(
        self,
        expert: SyncNet,
        loss: ShiftedInfoNCE | CosineBCELoss,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        gradient_clip: float = 1.0,
        stall_after: int = 1000,
        channel_order: str = "bgr",
        view: LipView | None = None,
        augmentation: VoiceAugmentation | None = None,
        box: BoxAugmentation | None = None,
        mouth_shape: MouthShapeLoss | None = None,
        mouth_weight: float = 1.0,
        min_shift: int = 5,
    ) -> None:
        super().__init__()
        self.expert = expert.to(memory_format=torch.channels_last)  # what CPUs and GPUs convolve fastest
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.gradient_clip = gradient_clip
        self.channel_order = channel_order
        self.view = view
        self.augmentation = augmentation
        self.box = box
        self.mouth_shape = mouth_shape
        self.mouth_weight = mouth_weight
        self.min_shift = min_shift
        self.stall = StallWatch(stall_after)
        self._compared: list[tuple[Tensor, Tensor, Tensor]] = []  # of one validation

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the mels ``(b, d)``, the faces ``(b, d)`` and the shifted mels ``(b, n, d)``."""
        mels = batch["mel"].unsqueeze(1)
        if "shifted_mel" in batch:
            mels = torch.cat([mels, batch["shifted_mel"]], dim=1)
        if self.training and self.augmentation is not None:
            mels = self.augmentation(mels, clip_numbers(batch))
        candidates = self.expert.embed_audio(mels.flatten(0, 1)).unflatten(0, mels.shape[:2])
        video = batch["video"]
        if self.view is not None:
            landmarks = batch["landmarks"]
            boxes = self.box(landmarks) if self.training and self.box is not None else landmarks
            video = self.view(video, boxes)
        shown = syncnet_input(video, self.channel_order).contiguous(memory_format=torch.channels_last)
        return candidates[:, 0], self.expert.embed_face(shown), candidates[:, 1:]

    def same_clip(self, batch: dict[str, Any]) -> SameClip:
        """Which windows of the batch are of one clip."""
        return SameClip.of(clip_numbers(batch), batch["frame"], self.min_shift)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One batch.

        Raises:
            TalkgenError: it holds no audio of the same clip at another time.
        """
        same_clip = self.same_clip(batch)
        if "shifted_mel" not in batch and not self.stall.batches and not bool(same_clip.far.any()):
            raise TalkgenError(
                "a sync expert learns from sound of the same clip at other times, and the batches hold none: "
                "set data.window.shifted_mels or data.windows_per_clip"
            )
        audio, face, shifted = self.embed(batch)
        loss: Tensor = self.loss(audio, face, shifted, same_clip)
        compared = shifted_cosines(audio.detach(), face.detach(), shifted.detach(), same_clip)
        self.log("train/sync", loss.detach(), prog_bar=True)
        self.log("train/accuracy", sync_accuracy(*compared), prog_bar=True)
        total = loss
        if self.mouth_shape is not None:
            shape = self.mouth_shape(audio, face, batch["landmarks"])
            self.log("train/mouth_shape", shape.detach())
            total = loss + self.mouth_weight * shape
        self.stall.watch(loss.detach(), self.loss.chance(len(face), shifted.shape[1]))
        return total

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How well in-sync and shifted mels of held-out people are told apart."""
        audio, face, shifted = self.embed(batch)
        same_clip = self.same_clip(batch)
        loss = self.loss(audio, face, shifted, same_clip)
        self.log("val/sync", loss, batch_size=len(face), sync_dist=True)
        self._compared.append(shifted_cosines(audio, face, shifted, same_clip))

    def on_validation_epoch_end(self) -> None:
        """The accuracy, and where the cosines of in-sync and shifted pairs lie: mean and quantiles."""
        together = torch.cat([positive for positive, _, _ in self._compared])
        apart = torch.cat([negative[counted] for _, negative, counted in self._compared])
        right = torch.cat(
            [right_choices(positive, negative)[counted] for positive, negative, counted in self._compared]
        )
        self._compared.clear()
        self.log("val/accuracy", right.mean(), prog_bar=True, sync_dist=True)
        for name, values in (("positive", together), ("negative", apart)):
            low, middle, high = values.quantile(torch.tensor([0.05, 0.5, 0.95], device=values.device))
            summary = {"mean": values.mean(), "p05": low, "p50": middle, "p95": high}
            self.log_dict({f"val/{name}_{key}": value for key, value in summary.items()}, sync_dist=True)

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


def clip_numbers(batch: dict[str, Any]) -> Tensor:
    """Numbers ``(b,)``, equal for windows of one clip."""
    last = {name: number for number, name in enumerate(batch["clip"])}
    return torch.tensor([last[name] for name in batch["clip"]], device=batch["frame"].device)


def right_choices(positive: Tensor, negative: Tensor) -> Tensor:
    """1 where the in-sync cosine ``(b,)`` is above the shifted one ``(b, n)``, ½ where equal, else 0."""
    difference = positive[:, None] - negative
    return (difference > 0).float() + 0.5 * (difference == 0).float()


def sync_accuracy(positive: Tensor, negative: Tensor, counted: Tensor) -> Tensor:
    """Share of (in-sync, shifted) pairs of which the in-sync one has the higher cosine; ties count half.

    Args:
        positive: ``(b,)``.
        negative: ``(b, n)``.
        counted: bool ``(b, n)``, which pairs count.
    """
    return (right_choices(positive, negative) * counted).sum() / counted.sum()


class StallWatch:
    """Report once when the loss is still at chance after ``after`` batches.

    Args:
        after: batches before the first look; 0 never looks.
        tolerance: fraction of the chance level that the loss must have fallen below it to count as learning.
        window: batches that a look averages over.
    """

    def __init__(self, after: int, tolerance: float = 0.02, window: int = 50) -> None:
        self.after = after
        self.tolerance = tolerance
        self.window = window
        self.batches = 0
        self.looked = False
        self._sum: Tensor | None = None

    def watch(self, loss: Tensor, chance: float) -> None:
        """Take the loss of a batch; ``chance`` is what a network that has learned nothing gets."""
        self.batches += 1
        self._sum = loss if self._sum is None else self._sum + loss
        if self.batches % self.window:
            return
        mean = float(self._sum) / self.window
        self._sum = None
        if self.after and not self.looked and self.batches >= self.after:
            if mean > (1 - self.tolerance) * chance:
                log.warning(
                    "the loss is %.3f after %d batches: guessing gives %.3f, so nothing has been learned. %s",
                    mean, self.batches, chance, STALL_CAUSES,
                )  # fmt: skip
            self.looked = True
