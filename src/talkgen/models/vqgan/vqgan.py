"""VQGAN whose halves are encoded apart (SwapTalk's first stage), or as published (whole images)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from talkgen.models.vqgan.decoder import Decoder
from talkgen.models.vqgan.encoder import Encoder
from talkgen.models.vqgan.quantizer import HalvesQuantizer, VectorQuantizer


@dataclass(frozen=True)
class VQGANCode:
    """An encoded image.

    Attributes:
        latent: quantised map ``(b, d, h, w)``, T_VQ in the paper.
        codes: indices ``(b, h, w)``; with two codebooks the upper rows index the upper one.
        continuous: the map before quantisation, ``(b, d, h, w)``.
        codebook_loss: what the quantiser asks for, a scalar.
    """

    latent: Tensor
    codes: Tensor
    continuous: Tensor
    codebook_loss: Tensor


@dataclass(frozen=True)
class VQGANOutput:
    """A reconstruction and how it came about; see ``VQGANCode``."""

    reconstruction: Tensor
    latent: Tensor
    codes: Tensor
    continuous: Tensor
    codebook_loss: Tensor


class VQGAN(nn.Module):
    """Encoder, codebook(s), decoder.

    With ``halves`` the picture is cut at half height into T^U and T^B, both go through the same encoder *as
    separate images*, and the latents are concatenated along height:
    T_VQ = cat(Quant(Enc(T^U), C^U), Quant(Enc(T^B), C^B)). One decoder sees the whole map. An encoder that
    saw both halves would write the mouth into the upper codes, and a lip-sync network that reads those would
    learn to copy the answer instead of listening.

    Args:
        encoder: image → latent.
        decoder: latent → image.
        quantizer: ``HalvesQuantizer`` (two codebooks) or ``VectorQuantizer`` (one).
        halves: encode the halves apart. False is the published VQGAN.

    Images are ``(b, 3, height, width)`` in [-1, 1]; height must be a multiple of ``2·factor`` with halves,
    of ``factor`` without, width of ``factor``.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        quantizer: VectorQuantizer | HalvesQuantizer,
        halves: bool = True,
    ) -> None:
        super().__init__()
        if encoder.factor != decoder.factor:
            raise ValueError(
                f"the encoder divides by {encoder.factor}, the decoder multiplies by {decoder.factor}"
            )
        self.encoder = encoder
        self.decoder = decoder
        self.quantize = quantizer
        self.quant_conv = nn.Conv2d(encoder.latent_channels, quantizer.dim, 1)
        self.post_quant_conv = nn.Conv2d(quantizer.dim, decoder.latent_channels, 1)
        self.halves = halves
        self.factor = encoder.factor
        self.dim = quantizer.dim

    def encode(self, image: Float[Tensor, "b 3 height width"]) -> VQGANCode:
        """Image → quantised latent and codes."""
        continuous = self.encode_continuous(image)
        quantised = self.quantize(continuous)
        return VQGANCode(quantised.latent, quantised.codes, continuous, quantised.loss)

    def encode_continuous(self, image: Float[Tensor, "b 3 height width"]) -> Float[Tensor, "b d h w"]:
        """Image → latent before quantisation."""
        height, width = image.shape[-2:]
        rows = self.factor * (2 if self.halves else 1)
        if height % rows or width % self.factor:
            raise ValueError(
                f"an image of {height}×{width} cannot be encoded: "
                f"its height must be a multiple of {rows}, its width of {self.factor}"
            )
        if not self.halves:
            return self.quant_conv(self.encoder(image))
        # b 3 (2 h) w → (b 2) 3 h w: the halves are images of their own
        apart = image.unflatten(2, (2, height // 2)).transpose(1, 2).flatten(0, 1)
        latent = self.quant_conv(self.encoder(apart))
        return latent.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3)

    def decode(self, latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 3 height width"]:
        """Latent (quantised or regressed) → image, not clamped."""
        return self.decoder(self.post_quant_conv(latent))

    def forward(self, image: Float[Tensor, "b 3 height width"]) -> VQGANOutput:
        """Encode and decode."""
        code = self.encode(image)
        return VQGANOutput(
            self.decode(code.latent), code.latent, code.codes, code.continuous, code.codebook_loss
        )

    def encode_codes(self, image: Float[Tensor, "b 3 height width"]) -> Int[Tensor, "b h w"]:
        """Image → indices (int64, each below 65,536, so that they can be stored as uint16)."""
        return self.encode(image).codes

    def lookup(self, codes: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """Indices (any integer type) → quantised latent."""
        return self.quantize.lookup(codes)

    def decode_codes(self, codes: Int[Tensor, "b h w"]) -> Float[Tensor, "b 3 height width"]:
        """Indices → image."""
        return self.decode(self.lookup(codes))

    @property
    def last_layer(self) -> Tensor:
        """The weight on which the adaptive adversarial weight measures gradients."""
        return self.decoder.conv_out.weight


def build_vqgan(
    channels: int = 128,
    multipliers: Sequence[int] = (1, 1, 2, 2, 4),
    blocks: int = 2,
    attention_levels: Sequence[int] | None = None,
    latent_channels: int = 256,
    codes: int = 1024,
    code_dim: int = 256,
    halves: bool = True,
    codebooks: Literal[1, 2] = 2,
    mode: Literal["ema", "gradient"] = "ema",
    beta: float = 0.25,
    legacy: bool = False,
    decay: float = 0.99,
    cosine: bool = False,
    kmeans_vectors: int = 8192,
    revive_below: float = 0.25,
    dropout: float = 0.0,
    checkpointing: bool = False,
    patch: int = 1,
) -> VQGAN:
    """A VQGAN of one description; the defaults are SwapTalk's f16 with the taming body.

    Args:
        channels: width of encoder and decoder at full resolution.
        multipliers: one factor on it a level; five levels make f16, four f8.
        blocks: residual blocks a level.
        attention_levels: levels with self-attention; None means the lowest alone, as published.
        latent_channels: channels between encoder and quantiser.
        codes: size of each codebook.
        code_dim: length of a code.
        halves: encode the halves apart.
        codebooks: 2 for one a half, 1 for a common one.
        mode, beta, legacy, decay, cosine, kmeans_vectors, revive_below: see ``VectorQuantizer``.
        dropout: inside residual blocks.
        checkpointing: recompute activations in the backward pass.
        patch: pixels of a square that become channels before the first and after the last convolution.
    """
    if codebooks not in (1, 2):
        raise ValueError(f"codebooks is 1 or 2, not {codebooks}")
    levels = (len(multipliers) - 1,) if attention_levels is None else attention_levels
    quantizers = [
        VectorQuantizer(codes, code_dim, mode, beta, legacy, decay, cosine, kmeans_vectors, revive_below)
        for _ in range(codebooks)
    ]
    return VQGAN(
        Encoder(channels, multipliers, blocks, levels, latent_channels, 3, dropout, checkpointing, patch),
        Decoder(channels, multipliers, blocks, levels, latent_channels, 3, dropout, checkpointing, patch),
        HalvesQuantizer(*quantizers) if codebooks == 2 else quantizers[0],
        halves,
    )
