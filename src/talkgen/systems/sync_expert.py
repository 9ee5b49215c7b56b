"""The lip-sync expert: does this speech belong to these lips?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE, shifted_cosines
from talkgen.losses.mouth_shape import MouthShapeLoss
from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet, syncnet_input
from talkgen.systems.augmentation import BoxAugmentation, VoiceAugmentation
from talkgen.systems.contrastive_sync import ContrastiveSyncSystem, mel_vectors, right_choices
from talkgen.systems.partials import OptimizerPartial, SchedulePartial


class SyncExpertSystem(ContrastiveSyncSystem):
    """Train SyncNet on windows of one clip and mels of the same clip at other times.

    The mels at other times come with the batch (``WindowSettings.shifted_mels``), or are those of the other
    windows of the clip in it (``TalkingFaceData.windows_per_clip``), which cost nothing to encode.

    ``val/accuracy`` is the share of comparisons in which the own mel of a held-out window scores higher than
    a mel of the same clip that is shifted by at least ``min_shift`` frames (chance is 0.5).

    Args:
        expert: the network.
        loss: ``ShiftedInfoNCE`` (default), or ``CosineBCELoss`` as published.
        channel_order: see ``syncnet_input``.
        view: what the expert sees of a window; None shows whole pictures.
        augmentation: of the voice, in training.
        box: of the box that the view cuts, in training; without a view it does nothing.
        optimizer, learning_rate, gradient_clip, stall_after, mouth_shape, mouth_weight, min_shift: see
            ``ContrastiveSyncSystem``.
    """

    expert: SyncNet

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
        super().__init__(
            expert.to(memory_format=torch.channels_last),  # what CPUs and GPUs convolve fastest
            loss, optimizer, learning_rate, gradient_clip, stall_after, mouth_shape, mouth_weight, min_shift,
        )  # fmt: skip
        self.channel_order = channel_order
        self.view = view
        self.augmentation = augmentation
        self.box = box
        self._compared: list[tuple[Tensor, Tensor, Tensor]] = []  # of one validation

    def embed(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the mels ``(b, d)``, the faces ``(b, d)`` and the shifted mels ``(b, n, d)``."""
        augment = self.augmentation if self.training else None
        candidates = mel_vectors(batch, self.expert.embed_audio, augment)
        video = batch["video"]
        if self.view is not None:
            landmarks = batch["landmarks"]
            boxes = self.box(landmarks) if self.training and self.box is not None else landmarks
            video = self.view(video, boxes)
        shown = syncnet_input(video, self.channel_order).contiguous(memory_format=torch.channels_last)
        return candidates[:, 0], self.expert.embed_face(shown), candidates[:, 1:]

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
