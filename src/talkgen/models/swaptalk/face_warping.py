"""The face warping module: where in the reference lies what the target's pose shows?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.residual import ResidualBlock, group_norm


class FaceWarping(nn.Module):
    """Lower halves of references, moved to the pose of a target of which only the upper half is seen.

    The difference of hourglass features says how the heads are turned against each other; an encoder makes
    an offset map of it, at half resolution, so that neighbouring cells move together. It begins as no offset
    (bilinear sampling at the cells' own centres), and the border is held where it points outside.

    Args:
        dim: channels of a latent.
        width: channels of the hourglass.
        reach: longest offset along an axis, in cells.
    """

    def __init__(self, dim: int, width: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.hourglass = Hourglass(dim, width)
        self.encoder = nn.ModuleList([ResidualBlock(width, width), ResidualBlock(width, 2 * width)])
        self.norm = group_norm(2 * width)
        # Two channels of offset, and one that weighs several references against each other.
        self.out = nn.Conv2d(2 * width, 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(torch.as_tensor(self.out.bias))

    def features(self, upper: Float[Tensor, "b n d u w"]) -> Float[Tensor, "b n c u w"]:
        """Hourglass features of upper halves."""
        features: Tensor = self.hourglass(upper.flatten(0, 1))
        return features.unflatten(0, upper.shape[:2])

    def forward(
        self,
        target: Float[Tensor, "b t c u w"],
        reference: Float[Tensor, "b r c u w"],
        lower: Float[Tensor, "b r d u w"],
    ) -> Float[Tensor, "b t d u w"]:
        """Features of targets and references, lower halves of the references → lower halves in the targets'
        poses.
        """
        offset, score = self.offsets(target, reference)
        b, t, r = score.shape[:3]
        sources = lower[:, None].expand(b, t, *lower.shape[1:]).flatten(0, 2)
        warped = sample(sources, offset.flatten(0, 2)).unflatten(0, (b, t, r))
        return (score.softmax(dim=2) * warped).sum(dim=2)

    def offsets(
        self, target: Float[Tensor, "b t c u w"], reference: Float[Tensor, "b r c u w"]
    ) -> tuple[Float[Tensor, "b t r 2 u w"], Float[Tensor, "b t r 1 u w"]]:
        """Offsets (x, y) in cells of the latent map, and the references' unnormalised weights."""
        difference = target[:, :, None] - reference[:, None]
        shape, size = difference.shape[:3], difference.shape[-2:]
        x = self.encoder[0](difference.flatten(0, 2))
        x = self.encoder[1](F.avg_pool2d(x, 2, ceil_mode=True))
        x = self.out(F.silu(self.norm(x)))
        x = F.interpolate(x, size, mode="bilinear", align_corners=False).unflatten(0, shape)
        return self.reach * x[:, :, :, :2].tanh(), x[:, :, :, 2:]


class Hourglass(nn.Module):
    """Down by two levels and up again, with skip connections.

    Args:
        dim: channels in.
        width: channels out and in between.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(dim, width, 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(width, width) for _ in range(3))
        self.up = nn.ModuleList(ResidualBlock(width, width) for _ in range(2))

    def forward(self, x: Float[Tensor, "n d u w"]) -> Float[Tensor, "n c u w"]:
        """Features at the same resolution."""
        x = self.conv_in(x)
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.avg_pool2d(x, 2, ceil_mode=True))
            skips.append(x)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            x = block(F.interpolate(x, skip.shape[-2:], mode="nearest") + skip)
        return x


def sample(x: Float[Tensor, "n d h w"], offset: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n d h w"]:
    """x at each cell's own place plus its offset (x, y) in cells, bilinear; the border is held."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device, dtype=offset.dtype)
    columns = torch.arange(width, device=x.device, dtype=offset.dtype)
    # grid_sample with align_corners=False: cell i of n lies at (2 i + 1) / n − 1.
    across = (2 * (columns + offset[:, 0]) + 1) / width - 1
    along = (2 * (rows[:, None] + offset[:, 1]) + 1) / height - 1
    grid = torch.stack([across, along], dim=-1)
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=False)
