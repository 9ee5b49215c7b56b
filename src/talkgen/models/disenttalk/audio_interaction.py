"""Audio-expression interaction: every frame hears its own moment, and may look at all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.cross_attention import CrossAttention
from talkgen.models.layers.temporal_attention import time_position


@dataclass(frozen=True)
class Heard:
    """What a block keeps of the audio: it depends neither on the motion nor on the timestep.

    Attributes:
        local: ``(b, t, d)``, what the local path adds; None without it.
        keys, values: of the cross-attention, ``(b, heads, t, d / heads)``.
    """

    local: Tensor | None
    keys: Tensor
    values: Tensor

    def __getitem__(self, rows: slice) -> Heard:
        """Some items of the batch."""
        return Heard(None if self.local is None else self.local[rows], self.keys[rows], self.values[rows])


class AudioInteraction(nn.Module):
    """Local temporal alignment and global cross-attention in parallel → multi-level feature fusion.

    Local: a convolution over a few frames of motion and audio together, which keeps a frame at its own
    moment. Since a convolution is linear, its audio half is computed once a clip. Global: attention of all
    frames to all moments of the audio.

    Args:
        width: channels of motion and of encoded audio.
        heads: of the cross-attention.
        reach: frames that the local path sees on either side.
        local: False: cross-attention alone (the ablation without the local path).
        dropout: of what is added, in training.
    """

    def __init__(
        self, width: int, heads: int, reach: int = 2, local: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        size = 2 * reach + 1
        self.local_motion = nn.Conv1d(width, width, size, padding=reach) if local else None
        self.local_audio = nn.Conv1d(width, width, size, padding=reach, bias=False) if local else None
        self.cross = CrossAttention(width, heads)
        self.fusion = nn.Linear((2 if local else 1) * width, width)
        self.dropout = nn.Dropout(dropout)

    def remember(self, audio: Float[Tensor, "b t d"]) -> Heard:
        """What is kept of the encoded audio."""
        placed = audio + time_position(audio.shape[1], audio.shape[2], audio.device, audio.dtype)
        local = None
        if self.local_audio is not None:
            local = self.local_audio(audio.transpose(1, 2)).transpose(1, 2)
        return Heard(local, *self.cross.remember(placed))

    def forward(self, x: Float[Tensor, "b t d"], heard: Heard) -> Float[Tensor, "b t d"]:
        """Motion and what was kept of its audio."""
        normal = self.norm(x)
        placed = normal + time_position(x.shape[1], x.shape[2], x.device, x.dtype)
        read = [self.cross(placed, heard.keys, heard.values)]
        if self.local_motion is not None and heard.local is not None:
            near = self.local_motion(normal.transpose(1, 2)).transpose(1, 2) + heard.local
            read.append(F.silu(near))
        return x + self.dropout(self.fusion(torch.cat(read, dim=2)))
