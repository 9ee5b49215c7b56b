"""What the training of all lip-sync experts shares: contrast with sound of the same clip at other times."""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from talkgen.errors import TalkgenError
from talkgen.global_batch import gather, processes
from talkgen.losses.lip_sync import (
    CosineBCELoss,
    SameClip,
    ShiftedInfoNCE,
    cosines,
    every_cosine,
    shifted_cosines,
)
from talkgen.losses.mouth_shape import MouthShapeLoss
from talkgen.systems.choices import Choices
from talkgen.systems.gradient_clip import ClippedSystem
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


class ContrastiveSyncSystem(ClippedSystem):
    """Train an expert whose embeddings of lips and of their own sound agree; a subclass gives :meth:`embed`.

    The negatives of a window are the other windows of its clip in the batch, and sound at other times that
    comes with the batch (``shifted_mel``).

    ``val/accuracy`` is the share of comparisons in which a held-out window's own sound scores higher than
    that of its clip ``min_shift`` frames away or farther; ``val/accuracy_3`` is that for exactly 3 frames,
    early or late (chance is 0.5). Both compare the windows of a batch with each other, so validation wants
    windows that begin at every frame, in order (``data.window.stride=1``).

    Args:
        expert: the network.
        loss: ``ShiftedInfoNCE`` (default), or ``CosineBCELoss`` as published for pixels.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        stall_after: batches after which a loss still at chance is reported; 0 never reports.
        mouth_shape: a further loss that shows the encoders where to look; None leaves it out.
        mouth_weight: its weight.
        min_shift: distance in frames from which on windows of a clip in one batch are negatives of each
            other; nearer ones are left out.
        distances: in frames, of the accuracies that validation reports one by one.
    """

    cure: ClassVar[str] = "data.window.shifted_mels or data.windows_per_clip"
    """Settings that give batches negatives."""

    def __init__(
        self,
        expert: nn.Module,
        loss: ShiftedInfoNCE | CosineBCELoss,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None,
        gradient_clip: float,
        stall_after: int,
        mouth_shape: MouthShapeLoss | None,
        mouth_weight: float,
        min_shift: int,
        distances: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.expert = expert
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.gradient_clip = gradient_clip
        self.mouth_shape = mouth_shape
        self.mouth_weight = mouth_weight
        self.min_shift = min_shift
        self.distances = tuple(distances)
        self.stall = StallWatch(stall_after)
        self.choices = Choices()

    @abstractmethod
    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the sounds ``(b, d)``, the lips ``(b, d)`` and the shifted sounds ``(b, n, d)``."""

    def same_clip(self, batch: dict[str, Any]) -> SameClip:
        """Which windows of the batch are of one clip."""
        return SameClip.of(clip_numbers(batch), batch["frame"], self.min_shift)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One batch.

        Raises:
            TalkgenError: it holds no sound of the same clip at another time.
        """
        same_clip = self.same_clip(batch)
        if "shifted_mel" not in batch and not self.stall.batches and not bool(same_clip.far.any()):
            raise TalkgenError(
                "a sync expert learns from sound of the same clip at other times, and the batches hold none: "
                f"set {self.cure}"
            )
        audio, face, shifted = self.embed(batch)
        total = self.mouth_term(audio, face, batch)
        if processes() > 1:  # windows on other processes are negatives as well
            audio, face, shifted = gather(audio), gather(face), gather(shifted)
            same_clip = SameClip.of(*gathered_places(batch), self.min_shift)
        loss: Tensor = self.loss(audio, face, shifted, same_clip)
        compared = shifted_cosines(audio.detach(), face.detach(), shifted.detach(), same_clip)
        self.log("train/sync", loss.detach(), prog_bar=True)
        self.log("train/accuracy", sync_accuracy(*compared), prog_bar=True)
        self.stall.watch(loss.detach(), self.loss.chance(len(face), shifted.shape[1]))
        return loss + total

    def mouth_term(self, audio: Tensor, face: Tensor, batch: dict[str, Any]) -> Tensor:
        """The weighted hint; 0 where there is none."""
        if self.mouth_shape is None:
            return audio.new_zeros(())
        shape: Tensor = self.mouth_shape(audio, face, batch["landmarks"])
        self.log("train/mouth_shape", shape.detach())
        return self.mouth_weight * shape

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How well held-out windows are told from those of the same clip at other times."""
        audio, face, shifted = self.embed(batch)
        number, frame = clip_numbers(batch), batch["frame"]
        same_clip = self.same_clip(batch)
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

    def configure_optimizers(self) -> Any:
        """One optimiser over the expert and what the losses learn (temperature, heads)."""
        trained = [self.expert, self.loss, *([self.mouth_shape] if self.mouth_shape is not None else [])]
        optimizer = self.optimizer([p for module in trained for p in module.parameters()])
        return with_schedule(optimizer, self.learning_rate)


def mel_vectors(
    batch: dict[str, Any],
    embed: Callable[[Tensor], Tensor],
    augment: Callable[[Tensor, Tensor], Tensor] | None,
) -> Tensor:
    """Unit vectors ``(b, 1 + n, d)`` of the mel of each window and of its shifted mels.

    All candidates go through the encoder at once, so that batch normalisation cannot tell in-sync from
    shifted mels by the batch they come in.

    Args:
        batch: of windows.
        embed: the expert's encoder of mels.
        augment: what changes the voice of a clip, given mels and the numbers of their clips; None: nothing.
    """
    mels = batch["mel"].unsqueeze(1)
    if "shifted_mel" in batch:
        mels = torch.cat([mels, batch["shifted_mel"]], dim=1)
    if augment is not None:
        mels = augment(mels, clip_numbers(batch))
    return embed(mels.flatten(0, 1)).unflatten(0, mels.shape[:2])


def clip_numbers(batch: dict[str, Any]) -> Tensor:
    """Numbers ``(b,)``, equal for windows of one clip."""
    last = {name: number for number, name in enumerate(batch["clip"])}
    return torch.tensor([last[name] for name in batch["clip"]], device=batch["frame"].device)


def gathered_places(batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Of the windows of all processes: numbers that are equal for windows of one clip, and first frames."""
    frame = batch["frame"]
    digests = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") for name in batch["clip"]]
    return gather(torch.tensor(digests, device=frame.device)), gather(frame)


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
