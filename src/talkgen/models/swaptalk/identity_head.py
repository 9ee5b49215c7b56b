"""Who is in a latent, without decoding it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.grid_position import GridPosition
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.layers.residual import ResidualBlock, group_norm


class LatentIdentityHead(nn.Module):
    """A small convolutional network that gives what a recogniser would give for the decoded picture::

        head(z) ≈ E(warp(D(z))) / ‖E(warp(D(z)))‖

    with decoder D and recogniser E frozen (our addition; the paper decodes at every step). It finds the face
    by itself, since crops hold it at about one place: an alignment is not needed.

    Args:
        dim: channels of a latent.
        width: channels at full resolution.
        multipliers: one factor on it a level; a level halves the map that comes in (with rounding up).
        blocks: residual blocks a level.
        cells: rows and columns to which the last map is averaged before the last, linear layer.
        embedding: length of the recogniser's vectors.
        grid: rows and columns of the learned positions; other maps resample them.
    """

    def __init__(
        self,
        dim: int,
        width: int = 256,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        cells: int = 3,
        embedding: int = 512,
        grid: Sequence[int] = (20, 20),
    ) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = embedding
        self.scale = LatentScale(dim)
        self.conv_in = nn.Conv2d(dim, width, 3, padding=1)
        self.position = GridPosition(width, grid)
        self.levels = nn.ModuleList()
        before = width
        for factor in multipliers:
            after = width * factor
            self.levels.append(
                nn.Sequential(*(ResidualBlock(before if i == 0 else after, after) for i in range(blocks)))
            )
            before = after
        self.norm = group_norm(before)
        self.pool = nn.AdaptiveAvgPool2d(cells)
        self.out = nn.Linear(before * cells * cells, embedding)

    def forward(self, latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b e"]:
        """Latents, quantised or regressed → directions, of length 1."""
        x = self.conv_in(self.scale.normalise(latent)) + self.position(*latent.shape[-2:])
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else F.avg_pool2d(x, 2, ceil_mode=True))
        # float32 also under autocast: cosines of half-precision vectors are too coarse for a loss
        return F.normalize(self.out(self.pool(F.silu(self.norm(x))).flatten(1)).float(), dim=1)
