"""Learned positions on a grid of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class GridPosition(nn.Module):
    """One learned vector a cell, resampled (bilinearly) where a map has another size than the table.

    A picture of another size is cut into more cells of the same face, so position means the share of the
    height and the width, not the number of the cell.

    Args:
        width: length of a vector.
        grid: rows and columns of the table.
    """

    def __init__(self, width: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, width, *grid) * 0.02)

    def forward(self, height: int, width: int) -> Float[Tensor, "1 c height width"]:
        """Positions of a map of this size."""
        if self.table.shape[-2:] == (height, width):
            return self.table
        return F.interpolate(self.table, (height, width), mode="bilinear", align_corners=False)
