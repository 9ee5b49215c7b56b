"""What frames hear, as the denoiser takes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class AudioEncoder(nn.Module):
    """Features of frozen networks (or mels) → one vector a frame that knows its neighbours.

    A linear layer and residual convolutions over 5 frames. Where the condition is dropped the features are
    replaced by one learned vector.

    Args:
        dim: of the features.
        width: of what comes out.
        layers: convolutions; each sees two frames more on either side.
        dropout: in training.

    Shapes: ``(b, t, dim)`` → ``(b, t, width)``.
    """

    def __init__(self, dim: int, width: int, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.first = nn.Linear(dim, width)
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features: Float[Tensor, "b t a"], dropped: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """``dropped``: the items that hear nothing at all, not even silence."""
        x = self.dropout(self.first(self.norm(features)))
        if dropped is not None:
            x = torch.where(dropped[:, None, None], self.null, x)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            heard = convolution(F.silu(norm(x)).transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(heard)
        return self.last(x)
