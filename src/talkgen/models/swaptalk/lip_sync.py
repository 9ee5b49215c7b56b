"""SwapTalk's lip-sync module (part d of the authors' figure): upper half, reference and speech → lower half.

There is no noise and no time step in it: one pass per frame. The lower half of the target is not an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from talkgen.models.layers.grid_position import GridPosition
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.layers.residual import group_norm
from talkgen.models.layers.temporal_attention import TemporalAttention
from talkgen.models.swaptalk.face_swap_unet import ReadingLevel
from talkgen.models.swaptalk.face_warping import FaceWarping
from talkgen.models.swaptalk.speech_tokens import SpeechTokens
from talkgen.models.vqgan.quantizer import HalvesQuantizer, VectorQuantizer
from talkgen.models.vqgan.vqgan import VQGAN


@dataclass(frozen=True)
class ReferenceFeatures:
    """What depends on the references alone; for all frames of a clip it is computed once.

    Attributes:
        upper: hourglass features of the upper halves ``(b, r, c, h/2, w)``.
        lower: lower halves at unit variance ``(b, r, d, h/2, w)``.
    """

    upper: Tensor
    lower: Tensor


class LipSync(nn.Module):
    """::

        f_T = Hourglass(T^U), f_R = Hourglass(R^U)                 shared weights
        T̃^B = grid_sample(R^B, Offset(f_T − f_R))                  the reference's mouth in the target's pose
        T̂^B = UNet(T̃^B ; cross-attention to AudioEncoder(audio))   in encoder and decoder blocks, with skips

    Everything happens in the VQGAN's latent space; the result is regressed, not quantised (``nearest_codes``
    snaps it). With several references each is warped by an offset map of its own, and a second map weighs
    them position by position.

    Args:
        dim: channels of a latent, d.
        width: channels of the UNet at full resolution.
        multipliers: one factor on it a level.
        blocks: residual blocks a level, each followed by cross-attention.
        heads: of the attention.
        warp_width: channels of the hourglass.
        reach: longest offset, in cells of the latent map.
        audio_width: length of a speech token.
        audio_dim: length of the speech features of a frame, such as 384 of Whisper; None hears the mel.
        dropout: of speech tokens, in training.
        grid: rows and columns of the learned positions (of half a map); other maps resample them.
        temporal: attention over the frames of the window at the lowest level; begins as nothing.
        pose: the UNet also sees f_T (the figure has no such arrow): how the head is held, once more.
        residual: T̂^B is T̃^B plus what the UNet gives, which begins as nothing.

    Shapes: ``(b, t, d, h/2, w)``, ``(b, r, d, h, w)`` and mel ``(b, t, 1, 80, 16)`` (or features
    ``(b, t, audio_dim)``) → ``(b, t, d, h/2, w)``; latents as ``VQGAN.lookup`` gives them.
    """

    def __init__(
        self,
        dim: int,
        width: int = 256,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        heads: int = 8,
        warp_width: int = 128,
        reach: float = 3.0,
        audio_width: int = 256,
        audio_dim: int | None = None,
        dropout: float = 0.1,
        grid: Sequence[int] = (10, 20),
        temporal: bool = True,
        pose: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.residual = residual
        self.scale = LatentScale(dim)
        self.warping = FaceWarping(dim, warp_width, reach)
        self.speech = SpeechTokens(audio_width, audio_dim, dropout)
        self.pose = nn.Conv2d(warp_width, width, 1) if pose else None
        widths = [width * factor for factor in multipliers]
        self.conv_in = nn.Conv2d(dim, width, 3, padding=1)
        self.position = GridPosition(width, grid)
        self.down, self.up, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = width
        for channels in widths:
            self.down.append(ReadingLevel(before, channels, audio_width, blocks, heads))
            before = channels
        for channels in reversed(widths[:-1]):
            self.merge.append(nn.Conv2d(before + channels, channels, 1))
            self.up.append(ReadingLevel(channels, channels, audio_width, blocks, heads))
            before = channels
        self.time = TemporalAttention(widths[-1], heads) if temporal else None
        self.norm = group_norm(width)
        self.conv_out = nn.Conv2d(width, dim, 3, padding=1)
        if residual:
            nn.init.zeros_(self.conv_out.weight)
            nn.init.zeros_(torch.as_tensor(self.conv_out.bias))

    def reference_features(self, reference: Float[Tensor, "b r d h w"]) -> ReferenceFeatures:
        """What the references give, once a clip."""
        upper, lower = self.scale.normalise(reference).chunk(2, dim=3)
        return ReferenceFeatures(self.warping.features(upper), lower)

    def forward(
        self,
        target_upper: Float[Tensor, "b t d u w"],
        reference: Float[Tensor, "b r d h w"] | ReferenceFeatures,
        mel: Tensor,
    ) -> Float[Tensor, "b t d u w"]:
        """T^U, R, audio → T̂^B."""
        kept = reference if isinstance(reference, ReferenceFeatures) else self.reference_features(reference)
        target = self.warping.features(self.scale.normalise(target_upper))
        warped = self.warping(target, kept.upper, kept.lower)
        frames = warped.shape[1]
        lower = warped.flatten(0, 1)
        tokens = self.speech(mel.flatten(0, 1))
        x = self.conv_in(lower) + self.position(*lower.shape[-2:])
        if self.pose is not None:
            x = x + self.pose(target.flatten(0, 1))
        change = self._transform(x, tokens, frames)
        out = lower + change if self.residual else change
        return self.scale.restore(out).unflatten(0, (-1, frames))

    def _transform(self, x: Tensor, tokens: Tensor, frames: int) -> Tensor:
        """The UNet; halving rounds up, and a map grows back to the size of its skip connection."""
        skips = []
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else F.avg_pool2d(x, 2, ceil_mode=True), level.remember(tokens))  # type: ignore[operator]
            skips.append(x)
        skips.pop()
        if self.time is not None:
            x = self.time(x, frames)
        for level, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            x = merge(torch.cat([F.interpolate(x, skip.shape[-2:], mode="nearest"), skip], dim=1))
            x = level(x, level.remember(tokens))  # type: ignore[operator]
        return self.conv_out(F.silu(self.norm(x)))


@torch.no_grad()
def nearest_codes(vqgan: VQGAN, lower: Float[Tensor, "b t d u w"]) -> Int[Tensor, "b t u w"]:
    """The lower codebook's nearest codes of regressed lower halves."""
    vectors = lower.movedim(2, -1)
    codes = lower_quantizer(vqgan).nearest(vectors.reshape(-1, vectors.shape[-1]).float())
    return codes.view(vectors.shape[:-1])


def lower_quantizer(vqgan: VQGAN) -> VectorQuantizer:
    """C^B of a VQGAN, or its only codebook."""
    quantizer = vqgan.quantize
    return quantizer.lower if isinstance(quantizer, HalvesQuantizer) else quantizer
