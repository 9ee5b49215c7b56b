"""DisentTalk's denoising network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from talkgen.models.disenttalk.audio_encoder import AudioEncoder
from talkgen.models.disenttalk.audio_interaction import AudioInteraction, Heard
from talkgen.models.disenttalk.region_attention import RegionAttention
from talkgen.models.disenttalk.temporal_convolution import TemporalConvolution
from talkgen.models.disenttalk.timestep_modulation import TimestepModulation
from talkgen.models.layers.time_embedding import sinusoidal_embedding


class DenoisingBlock(nn.Module):
    """The lower panel of the paper's figure, from left to right; each box is a residual of its own.

    Args:
        widths: channels of the regions.
        heads, hierarchical: see ``RegionAttention``.
        temporal: False leaves the dilated convolutions out.
        local: see ``AudioInteraction``.
        dropout: in training.
    """

    def __init__(
        self,
        widths: Sequence[int],
        heads: int,
        hierarchical: bool = True,
        temporal: bool = True,
        local: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = sum(widths)
        self.regions = RegionAttention(widths, heads, hierarchical, dropout)
        self.temporal = TemporalConvolution(width, dropout=dropout) if temporal else None
        self.audio = AudioInteraction(width, heads, local=local, dropout=dropout)
        self.modulation = TimestepModulation(width, dropout=dropout)

    def forward(self, x: Tensor, heard: Heard, embedding: Tensor) -> Tensor:
        """Motion ``(b, t, d)``, its audio, and the timestep's embedding ``(b, d)``."""
        x = self.regions(x)
        if self.temporal is not None:
            x = self.temporal(x)
        return self.modulation(self.audio(x, heard), embedding)


class MotionDenoiser(nn.Module):
    """z_t, t and what is heard → ẑ₀ (or whatever the diffusion has it predict).

    Some frames may be known (those that were carried over from the window before): they are given clean, and
    marked as such. ::

        memory = denoiser.remember(audio)                 # once a clip
        for t in timesteps:
            z0 = denoiser.denoise(z, t, memory, known)

    Args:
        sizes: numbers of each region in z, the global one last: those of ``MotionSpace``.
        audio_dim: of the features that a frame hears.
        width: channels; half of them are the mouth's, a quarter each the eyes' and the rest's.
        blocks: how many.
        heads: of each attention.
        audio_layers: convolutions over the features.
        hierarchical, temporal, local: False leaves that part of a block out, for the paper's ablation.
        dropout: in training.

    Shapes: z ``(b, t, sum of sizes)``, timesteps ``(b,)``, features ``(b, t, audio_dim)``, known ``(b, t)``.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        audio_dim: int,
        width: int = 512,
        blocks: int = 4,
        heads: int = 8,
        audio_layers: int = 2,
        hierarchical: bool = True,
        temporal: bool = True,
        local: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.audio_dim = audio_dim
        self.width = width
        widths = split_width(width, len(self.sizes))
        self.regions_in = nn.ModuleList(nn.Linear(a, b) for a, b in zip(self.sizes, widths, strict=True))
        self.known = nn.Parameter(torch.randn(width) * 0.02)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.audio = AudioEncoder(audio_dim, width, audio_layers, dropout)
        self.blocks = nn.ModuleList(
            DenoisingBlock(widths, heads, hierarchical, temporal, local, dropout) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, sum(self.sizes))

    def remember(
        self, audio: Float[Tensor, "b t a"], dropped: Bool[Tensor, " b"] | None = None
    ) -> list[Heard]:
        """What each block keeps of the audio; ``dropped`` says which items hear nothing."""
        encoded = self.audio(audio, dropped)
        return [block.audio.remember(encoded) for block in self.blocks]  # type: ignore[operator, union-attr]

    def denoise(
        self,
        noisy: Float[Tensor, "b t n"],
        timestep: Int[Tensor, " b"],
        memory: Sequence[Heard],
        known: Float[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t n"]:
        """The network's answer; ``noisy`` holds the clean numbers where ``known`` is 1."""
        parts = noisy.split(self.sizes, dim=2)
        x = torch.cat([layer(part) for layer, part in zip(self.regions_in, parts, strict=True)], dim=2)
        if known is not None:
            x = x + known[:, :, None] * self.known
        embedding = self.time(sinusoidal_embedding(timestep, self.width).to(x.dtype))
        for block, heard in zip(self.blocks, memory, strict=True):
            x = block(x, heard, embedding)
        return self.out(F.silu(self.norm(x)))

    def forward(
        self,
        noisy: Float[Tensor, "b t n"],
        timestep: Int[Tensor, " b"],
        audio: Float[Tensor, "b t a"],
        known: Float[Tensor, "b t"] | None = None,
        dropped: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t n"]:
        """Everything at once, for training."""
        return self.denoise(noisy, timestep, self.remember(audio, dropped), known)


def split_width(width: int, regions: int) -> tuple[int, ...]:
    """Channels of each region: half for the first, equal shares of the rest."""
    if regions == 1:
        return (width,)
    share = width // 2 // (regions - 1)
    return (width - share * (regions - 1), *[share] * (regions - 1))
