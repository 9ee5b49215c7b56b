"""Multi-scale temporal modelling: dilated convolutions side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class TemporalConvolution(nn.Module):
    """Convolutions over 3 frames with d = 1, 2 and 4 in parallel → feature aggregation (the paper's figure).

    Args:
        width: channels.
        dilations: one convolution each.
        dropout: of what is added, in training.

    Shapes: ``(b, t, width)`` → the same.
    """

    def __init__(self, width: int, dilations: Sequence[int] = (1, 2, 4), dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scales = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in dilations)
        self.aggregation = nn.Linear(len(self.scales) * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """One window of frames a row."""
        frames = self.norm(x).transpose(1, 2)
        seen = torch.cat([F.silu(scale(frames)) for scale in self.scales], dim=1)
        return x + self.dropout(self.aggregation(seen.transpose(1, 2)))
