"""The inpainting UNet of Diff2Lip, in the key layout of the published weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from talkgen.models.diff2lip.attention import AttentionBlock
from talkgen.models.diff2lip.audio_encoder import AudioEncoder, Style
from talkgen.models.diff2lip.blocks import Conditioned, Conditioning, ResidualBlock
from talkgen.models.diff2lip.normalisation import group_norm
from talkgen.models.layers.time_embedding import sinusoidal_embedding


@dataclass
class DeepFeatures:
    """What the inner blocks made of an earlier noisy picture, for steps that leave them out.

    From one step of a sampler to the next the deep layers of a UNet hardly change ("DeepCache: Accelerating
    Diffusion Models for Free", Ma et al., 2023): some steps compute the outer blocks alone.

    Attributes:
        blocks: outer blocks that are computed at every step, on the way down and on the way up.
        value: what the outer blocks on the way up are handed; None: not known, all blocks are computed.
    """

    blocks: int = 3
    value: Tensor | None = None


# Widths by picture size, as in guided-diffusion.
MULTIPLIERS = {64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 3, 4, 4), 512: (1, 1, 2, 2, 4, 4)}


class Diff2LipUNet(nn.Module):
    """ε̂ = UNet([x_t ⊙ m + masked ⊙ (1 − m), masked, reference]; e_t + e_a).

    "Diff2Lip: Audio Conditioned Diffusion Models for Lip-Synchronization" (Mukhopadhyay et al., 2023). What
    must not change is shown clean at every step: outside the mask m the noisy picture is replaced by the
    target. Time and audio are added up to one vector that every residual block takes in.

        unet = Diff2LipUNet()
        load_published(unet, "e7.24.1.3_model260000_paper.pt", layout="diff2lip")  # strict, 632 tensors
        output = unet(noisy, timestep, masked, mask, reference, mel)

    For sampling, what does not depend on x_t is computed once: ``embed_audio`` a frame, ``embed_time`` a
    step, and ``denoise`` with their sum.

    Args:
        image_size: side of the pictures it is made for; with the resolutions it says which levels attend.
        channels: width of the first level; 128 as published.
        multipliers: widths of the levels over ``channels``; None takes guided-diffusion's for the size.
        blocks: residual blocks a level (one more on the way up).
        attention_resolutions: sides in pixels of the maps that have self-attention; the middle always has.
        head_channels: of one head of attention.
        references: reference pictures, joined on channels.
        audio_channels: width of the audio encoder; 32 as published.
        mel_bins: height that mel windows are averaged to; 80, all there is, as published.
        audio_cells: (rows, columns) of the audio encoder's map that are kept apart, see ``Style``; (1, 1) as
            published.
        patch: squares of so many pixels become channels on the way in, and pixels again on the way out: a
            wider network at the same price; 1 as published.
        residual: what is predicted is added to the (first) reference: a network that predicts pictures then
            begins as "copy the reference", and has its detail for nothing. Not as published.
        conditioning: how the embedding enters a block, see ``ResidualBlock``.
        learned_range: predict as many channels again for the variance.
        dropout: in residual blocks.
        gradient_checkpointing: keep only the inputs of blocks in training, and compute them again on the way
            back: about a third more time for a fraction of the memory.
    """

    def __init__(
        self,
        image_size: int = 128,
        channels: int = 128,
        multipliers: Sequence[int] | None = None,
        blocks: int = 2,
        attention_resolutions: Sequence[int] = (32, 16, 8),
        head_channels: int = 64,
        references: int = 1,
        audio_channels: int = 32,
        mel_bins: int = 80,
        audio_cells: Sequence[int] = (1, 1),
        patch: int = 1,
        residual: bool = False,
        conditioning: Conditioning = "additive",
        learned_range: bool = True,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if multipliers is None:
            if image_size not in MULTIPLIERS:
                raise ValueError(f"give multipliers for pictures of {image_size} pixels")
            multipliers = MULTIPLIERS[image_size]
        if image_size % (patch * 2 ** (len(multipliers) - 1)):
            raise ValueError(
                f"{image_size} pixels in patches of {patch} cannot be halved {len(multipliers) - 1} times"
            )
        self.image_size = image_size
        self.patch = patch
        self.residual = residual
        self.channels = channels
        self.references = references
        self.learned_range = learned_range
        self.gradient_checkpointing = gradient_checkpointing
        self.embedding_dim = 4 * channels

        self.time_embed = nn.Sequential(
            nn.Linear(channels, self.embedding_dim),
            nn.SiLU(),
            nn.Linear(self.embedding_dim, self.embedding_dim),
        )
        self.mel_bins = mel_bins
        self.audio_encoder = AudioEncoder(audio_channels, mel_bins)
        rows, columns = audio_cells
        self.audio_encoder_to_style = Style(
            self.audio_encoder.out_channels, self.embedding_dim, (rows, columns)
        )

        def res_block(channels_in: int, channels_out: int, **resampling: object) -> ResidualBlock:
            return ResidualBlock(
                channels_in, channels_out, self.embedding_dim, conditioning, dropout, **resampling  # type: ignore[arg-type]
            )  # fmt: skip

        def attention(width: int, side: int) -> list[nn.Module]:
            return [AttentionBlock(width, head_channels)] if side in attention_resolutions else []

        side, width = image_size // patch, multipliers[0] * channels
        down = [Conditioned(nn.Conv2d(3 * (2 + references) * patch**2, width, 3, padding=1))]
        widths = [width]  # of what the way up is handed
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                down.append(
                    Conditioned(
                        res_block(width, multiplier * channels), *attention(multiplier * channels, side)
                    )
                )
                width = multiplier * channels
                widths.append(width)
            if level < len(multipliers) - 1:
                down.append(Conditioned(res_block(width, width, down=(2, 2))))
                widths.append(width)
                side //= 2
        self.input_blocks = nn.ModuleList(down)
        self.middle_block = Conditioned(
            res_block(width, width), AttentionBlock(width, head_channels), res_block(width, width)
        )
        up = []
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for i in range(blocks + 1):
                layers: list[nn.Module] = [res_block(width + widths.pop(), multiplier * channels)]
                width = multiplier * channels
                layers += attention(width, side)
                if level and i == blocks:
                    layers.append(res_block(width, width, up=True))
                    side *= 2
                up.append(Conditioned(*layers))
        self.output_blocks = nn.ModuleList(up)
        last = nn.Conv2d(width, (6 if learned_range else 3) * patch**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.out = nn.Sequential(group_norm(width), nn.SiLU(), last)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; pictures of another precision are converted on their way in."""
        return next(self.parameters()).dtype

    def embed_time(self, timestep: Shaped[Tensor, " b"]) -> Float[Tensor, "b e"]:
        """e_t of integer timesteps."""
        return self.time_embed(sinusoidal_embedding(timestep, self.channels).to(self.dtype))

    def embed_audio(self, mel: Float[Tensor, "b 1 bins 16"]) -> Float[Tensor, "b e"]:
        """e_a of the mel windows of frames."""
        if mel.shape[2] != self.mel_bins:
            mel = F.adaptive_avg_pool2d(mel, (self.mel_bins, mel.shape[3]))
        return self.audio_encoder_to_style(self.audio_encoder(mel.to(self.dtype)))

    def denoise(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        embedding: Float[Tensor, "b e"],
        masked: Float[Tensor, "b 3 h w"],
        mask: Float[Tensor, "#b 1 h w"],
        reference: Float[Tensor, "b c h w"],
        deep: DeepFeatures | None = None,
    ) -> Float[Tensor, "b c2 h w"]:
        """The output for e_t + e_a; see ``forward``. ``deep`` is filled in, or taken where it is known."""
        x = torch.cat([torch.lerp(masked, noisy, mask), masked, reference], dim=1).to(self.dtype)
        x = F.pixel_unshuffle(x, self.patch)
        known = None if deep is None else deep.value
        outer = 0 if deep is None else deep.blocks
        kept = []
        for block in self.input_blocks if known is None else self.input_blocks[:outer]:
            x = self._run(block, x, embedding)
            kept.append(x)
        if known is None:
            x = self._run(self.middle_block, x, embedding)
            for block in self.output_blocks[: len(self.output_blocks) - outer]:
                x = self._run(block, torch.cat([x, kept.pop()], dim=1), embedding)
            if deep is not None:
                deep.value = x
        else:
            x = known
        for block in self.output_blocks[len(self.output_blocks) - outer :]:
            x = self._run(block, torch.cat([x, kept.pop()], dim=1), embedding)
        output = F.pixel_shuffle(self.out(x), self.patch)
        if not self.residual:
            return output
        predicted, *variance = output.split(3, dim=1)
        return torch.cat([predicted + reference[:, :3], *variance], dim=1)

    def forward(
        self,
        noisy: Float[Tensor, "b 3 h w"],
        timestep: Shaped[Tensor, " b"],
        masked: Float[Tensor, "b 3 h w"],
        mask: Float[Tensor, "#b 1 h w"],
        reference: Float[Tensor, "b c h w"],
        mel: Float[Tensor, "b 1 bins 16"],
    ) -> Float[Tensor, "b c2 h w"]:
        """What the network makes of a noisy picture.

        Args:
            noisy: x_t, in [-1, 1] plus noise.
            timestep: t, integers.
            masked: the target outside the mask, noise inside it (see ``inpainting.hide``).
            mask: 1 where the picture is to be generated.
            reference: other frames of the same person, 3·references channels.
            mel: the mel window of each frame.

        Returns:
            The prediction (3 channels) and, with ``learned_range``, the variance's place in its range (3).
        """
        embedding = self.embed_time(timestep) + self.embed_audio(mel)
        return self.denoise(noisy, embedding, masked, mask, reference)

    def _run(self, block: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, x, embedding, use_reentrant=False)
        return block(x, embedding)
