"""What the backbones of the face-swapping module have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from talkgen.models.layers.latent_scale import LatentScale


@dataclass(frozen=True)
class SourceMemory:
    """What a backbone remembers of a source picture, so that it is computed once a clip.

    Attributes:
        tensors: the backbone's own; the batch is their first dimension.
    """

    tensors: tuple[Tensor, ...]

    def expand(self, batch: int) -> SourceMemory:
        """The memory of one source for ``batch`` targets (no copy); one of ``batch`` sources as it is."""
        return SourceMemory(tuple(tensor.expand(batch, *tensor.shape[1:]) for tensor in self.tensors))


class Swapper(Protocol):
    """A face-swapping network on VQ latents: the target's picture with the source's face.

    Attributes:
        dim: channels of a latent, d.
        scale: of latents; set from the codebook before training.
    """

    dim: int
    scale: LatentScale

    def source_memory(self, source: Float[Tensor, "b d h w"]) -> SourceMemory:
        """Everything that depends on the source alone."""

    def swap(self, target: Float[Tensor, "b d h w"], memory: SourceMemory) -> Float[Tensor, "b d h w"]:
        """Swapped latents of targets; ``memory`` is of as many sources, or of one for all of them."""

    def __call__(
        self, target: Float[Tensor, "b d h w"], source: Float[Tensor, "b d h w"]
    ) -> Float[Tensor, "b d h w"]:
        """``swap(target, source_memory(source))``."""
