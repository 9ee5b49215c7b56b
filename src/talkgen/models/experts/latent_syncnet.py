"""SwapTalk's VQ-Lip expert: SyncNet on the lower half of VQ latents instead of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.experts.syncnet import AUDIO_LINES, FRAMES, conv_encoder, scaled, unit
from talkgen.models.layers.grid_position import GridPosition
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.layers.residual import ResidualBlock, group_norm


class LatentSyncNet(nn.Module):
    """Speech and the lower halves of five latent maps to unit vectors whose cosine says whether they belong
    together. It judges lips where they are made: nothing is decoded.

    The audio encoder is SyncNet's. The maps of a window are stacked on channels, as SyncNet stacks pictures.
    With ``motion`` their mean over the window is taken away: what is left is what moves, in any face, and
    people cannot be learned by heart instead of lips.

    Args:
        dim: channels of a latent, d.
        width: channels of the face encoder at full resolution.
        multipliers: one factor on it a level; a level halves the map that comes in (with rounding up).
        blocks: residual blocks a level.
        cells: rows and columns to which the last map is averaged before the last, linear layer.
        audio_width: factor on the channels of the audio encoder; embeddings have 512 times as many.
        motion: see above.
        final_relu: see ``SyncNet``.
        dropout: of whole channels of the latents, in training.
        grid: rows and columns of the learned positions (of half a map); other maps resample them.

    Shapes: mel ``(b, 1, 80, 16)``, lower halves ``(b, 5, d, h/2, w)`` as ``VQGAN.lookup`` gives them → two
    ``(b, e)``, e = 512·audio_width.
    """

    def __init__(
        self,
        dim: int,
        width: int = 256,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        cells: Sequence[int] = (2, 4),
        audio_width: float = 1.0,
        motion: bool = True,
        final_relu: bool = False,
        dropout: float = 0.0,
        grid: Sequence[int] = (10, 20),
    ) -> None:
        super().__init__()
        self.final_relu = final_relu
        self.motion = motion
        self.scale = LatentScale(dim)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_in = nn.Conv2d(FRAMES * dim, width, 3, padding=1)
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
        self.pool = nn.AdaptiveAvgPool2d(tuple(cells))
        self.audio_encoder = conv_encoder(1, AUDIO_LINES, audio_width, final_relu)
        self.dim = scaled(AUDIO_LINES[-1][0], audio_width)
        self.out = nn.Linear(before * cells[0] * cells[1], self.dim)

    def embed_audio(self, mel: Float[Tensor, "b 1 80 16"]) -> Float[Tensor, "b e"]:
        """Unit vectors of mel windows."""
        return unit(self.audio_encoder(mel))

    def embed_face(self, lower: Float[Tensor, "b 5 d u w"]) -> Float[Tensor, "b e"]:
        """Unit vectors of windows of lower halves, quantised or regressed."""
        normal = self.scale.normalise(lower)
        if self.motion:
            normal = normal - normal.mean(dim=1, keepdim=True)
        x = self.conv_in(self.dropout(normal.flatten(1, 2))) + self.position(*lower.shape[-2:])
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else F.avg_pool2d(x, 2, ceil_mode=True))
        x = self.out(self.pool(F.silu(self.norm(x))).flatten(1))
        return unit(x.relu() if self.final_relu else x)

    def forward(
        self, mel: Float[Tensor, "b 1 80 16"], lower: Float[Tensor, "b 5 d u w"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
        """Audio and face embedding, in SyncNet's order."""
        return self.embed_audio(mel), self.embed_face(lower)
