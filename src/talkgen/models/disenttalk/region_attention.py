"""Hierarchical spatial modelling: every region attends to itself over time, then they are fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.cross_attention import CrossAttention
from talkgen.models.layers.temporal_attention import time_position


class RegionAttention(nn.Module):
    """Region decomposition → mouth, eye and global region attention → feature fusion (the paper's figure).

    The channels are split into one part a region. Mouth and eyes attend to their own part over time; the
    last region, `global`, asks with its part and looks at all of them. Fused by a linear layer, as a
    residual.

    Args:
        widths: channels of each region, the global one last.
        heads: of each attention.
        hierarchical: False: one attention over all channels (the ablation without hierarchy).
        dropout: of what is added, in training.

    Shapes: ``(b, t, sum of widths)`` → the same.
    """

    def __init__(
        self, widths: Sequence[int], heads: int, hierarchical: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        width = sum(widths)
        self.widths = tuple(widths) if hierarchical else (width,)
        self.norm = nn.LayerNorm(width)
        own = [CrossAttention(part, heads) for part in self.widths[:-1]]
        self.attentions = nn.ModuleList([*own, CrossAttention(self.widths[-1], heads, width)])
        self.fusion = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """One window of frames a row."""
        normal = self.norm(x)
        normal = normal + time_position(x.shape[1], x.shape[2], x.device, x.dtype)
        parts = normal.split(self.widths, dim=2)
        memories = (*parts[:-1], normal)
        read = [
            attention(part, *attention.remember(memory))  # type: ignore[operator]
            for attention, part, memory in zip(self.attentions, parts, memories, strict=True)
        ]
        return x + self.dropout(self.fusion(torch.cat(read, dim=2)))
