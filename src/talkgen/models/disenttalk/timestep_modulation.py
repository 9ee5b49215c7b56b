"""Timestep modulation, the last box of a block."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class TimestepModulation(nn.Module):
    """x + MLP((1 + γ_t) norm(x) + β_t), γ_t and β_t linear in the timestep's embedding.

    Args:
        width: channels of motion and of the timestep's embedding.
        factor: width of the hidden layer over ``width``.
        dropout: of the hidden layer, in training.

    Shapes: ``(b, t, width)`` and ``(b, width)`` → ``(b, t, width)``.
    """

    def __init__(self, width: int, factor: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.first = nn.Linear(width, factor * width)
        self.second = nn.Linear(factor * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], embedding: Float[Tensor, "b d"]) -> Float[Tensor, "b t d"]:
        """One window of frames a row."""
        scale, shift = self.modulation(F.silu(embedding))[:, None].chunk(2, dim=2)
        modulated = self.norm(x) * (1 + scale) + shift
        return x + self.second(self.dropout(F.silu(self.first(modulated))))
