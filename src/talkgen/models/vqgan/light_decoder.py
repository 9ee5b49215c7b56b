"""A smaller decoder for the latents of a trained VQGAN."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.vqgan.decoder import Decoder


class LightDecoder(nn.Module):
    """What a VQGAN does after its codebook, at another width: ``decode`` takes the same latents.

    Decoding is nine tenths of the cost of SwapTalk in use, and its price grows with the square of the width.

    Args:
        dim: channels of a latent, d.
        channels: width at full resolution.
        multipliers: one factor on it a level, as many levels as the VQGAN has.
        blocks: residual blocks a level.
        latent_channels: channels after the first convolution.
        patch: squares of pixels that are its last channels, as many as the VQGAN has.

    Shapes: ``(b, d, h, w)`` → ``(b, 3, factor·h, factor·w)``.
    """

    def __init__(
        self,
        dim: int,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: int = 2,
        latent_channels: int = 256,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.post_quant_conv = nn.Conv2d(dim, latent_channels, 1)
        self.decoder = Decoder(
            channels, multipliers, blocks, (len(multipliers) - 1,), latent_channels, patch=patch
        )
        self.factor = self.decoder.factor

    def decode(self, latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 height width"]:
        """Latent (quantised or regressed) → image, not clamped."""
        return self.decoder(self.post_quant_conv(latent))

    def forward(self, latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 height width"]:
        """``decode``."""
        return self.decode(latent)
