"""Variation of training windows that leaves timing alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAugmentation(nn.Module):
    """Other light, another crop, another voice: what a sync expert should not look at or listen for.

    Every window is changed as a whole: all its frames alike, and its own mel and the shifted ones alike, so
    that only timing tells which mel belongs to the frames.

    Args:
        colour: largest relative change of each colour channel's gain, and half of it as offset.
        move: largest shift of the picture, as a fraction of its size.
        zoom: largest relative change of its size.
        mel_gain: largest change of the mel's level, in its own units (range −4 to 4).
        mel_shift: largest shift along frequency, in mel bands: a higher or lower voice.
    """

    def __init__(
        self,
        colour: float = 0.2,
        move: float = 0.04,
        zoom: float = 0.06,
        mel_gain: float = 0.4,
        mel_shift: int = 3,
    ) -> None:
        super().__init__()
        self.colour = colour
        self.move = move
        self.zoom = zoom
        self.mel_gain = mel_gain
        self.mel_shift = mel_shift

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with other ``video``, ``mel`` and ``shifted_mel``; random numbers are PyTorch's."""
        mels = torch.cat([batch["mel"].unsqueeze(1), batch["shifted_mel"]], dim=1)
        mels = self._voice(mels)
        return {
            **batch,
            "video": self._picture(batch["video"]),
            "mel": mels[:, 0],
            "shifted_mel": mels[:, 1:],
        }

    def _picture(self, video: Tensor) -> Tensor:
        """``(b, t, 3, h, w)`` in [-1, 1]."""
        b, t = video.shape[:2]

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, device=video.device, dtype=video.dtype) * 2 - 1

        matrix = torch.zeros(b, 2, 3, device=video.device, dtype=video.dtype)
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1 + self.zoom * draw(b)
        matrix[:, :, 2] = 2 * self.move * draw(b, 2)
        flat = video.flatten(1, 2)  # the frames of a window are channels of one picture
        grid = F.affine_grid(matrix, list(flat.shape), align_corners=False)
        moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(video)
        gain = 1 + self.colour * draw(b, 1, 3, 1, 1)
        return (moved * gain + self.colour / 2 * draw(b, 1, 3, 1, 1)).clamp(-1, 1)

    def _voice(self, mels: Tensor) -> Tensor:
        """``(b, n, 1, 80, steps)``."""
        b, bands = len(mels), mels.shape[3]
        gain = self.mel_gain * (torch.rand(b, 1, 1, 1, 1, device=mels.device, dtype=mels.dtype) * 2 - 1)
        shift = torch.randint(-self.mel_shift, self.mel_shift + 1, (b, 1), device=mels.device)
        band = (torch.arange(bands, device=mels.device) + shift).clamp(0, bands - 1)  # (b, bands)
        index = band.view(b, 1, 1, bands, 1).expand_as(mels)
        return mels.gather(3, index) + gain
