"""A batch of face windows as Diff2Lip's network takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from talkgen.errors import TalkgenError
from talkgen.global_batch import draw_rows
from talkgen.losses.reconstruction import region_weight
from talkgen.systems.augmentation import VoiceAugmentation


@dataclass(frozen=True)
class Windows:
    """A batch as the network takes it; frames of a window follow each other.

    Attributes:
        target: ``(b·t, 3, h, w)``.
        reference: ``(b·t, 3·references, h, w)``.
        heard: mel window of each frame, ``(b·t, 1, 80, 16)``.
        mel: of each window, for the expert, ``(b, 1, 80, 16)``.
        landmarks: ``(b, t, 68, 2)``.
        frames: t.
    """

    target: Tensor
    reference: Tensor
    heard: Tensor
    mel: Tensor
    landmarks: Tensor
    frames: int

    def in_windows(self, x: Tensor) -> Tensor:
        """``(b·t, …)`` → ``(b, t, …)``."""
        return x.unflatten(0, (-1, self.frames))

    def noise(self, shared: bool, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal like ``target``; one map a window if ``shared``, else one a frame."""
        target = self.target
        frames = 1 if shared else self.frames

        def draw(count: int, chance: torch.Generator | None) -> Tensor:
            return torch.randn(count, frames, *target.shape[1:], generator=chance, device=target.device)

        windows = len(target) // self.frames
        maps = draw_rows(draw, windows, target.device) if generator is None else draw(windows, generator)
        return maps.expand(-1, self.frames, -1, -1, -1).flatten(0, 1)

    def mouth_weight(self, mouth: float) -> Tensor | None:
        """``(b·t, 1, h, w)``: ``mouth`` in its box, 1 elsewhere; None where all pixels count alike."""
        if mouth == 1:
            return None
        height, width = self.target.shape[-2:]
        return region_weight(self.landmarks.flatten(0, 1).float(), height, width, mouth=mouth)


def read_windows(
    batch: dict[str, Any], references: int, augmentation: VoiceAugmentation | None = None
) -> Windows:
    """Take a batch apart.

    Args:
        batch: with ``video``, ``reference``, ``mel_per_frame``, ``mel`` and ``landmarks``.
        references: pictures that the network takes. A batch may have as many, for all frames of a window, or
            as many for each frame.
        augmentation: of the voice.

    Raises:
        TalkgenError: the batch has another number of reference frames.
    """
    video, heard, mel = batch["video"], batch["mel_per_frame"], batch["mel"]
    frames, given = video.shape[1], batch["reference"].shape[1]
    if augmentation is not None:
        voices = augmentation(torch.cat([heard, mel.unsqueeze(1)], dim=1))
        heard, mel = voices[:, :-1], voices[:, -1]
    if given == references:
        reference = batch["reference"].flatten(1, 2).repeat_interleave(frames, 0)
    elif given == references * frames:
        reference = batch["reference"].unflatten(1, (frames, references)).flatten(2, 3).flatten(0, 1)
    else:
        raise TalkgenError(
            f"{given} reference frames for windows of {frames}: give {references} or {references * frames} "
            "(data.window.reference_frames)"
        )
    return Windows(video.flatten(0, 1), reference, heard.flatten(0, 1), mel, batch["landmarks"], frames)
