"""VQ latents at unit variance, so that every network on them starts from inputs of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

if TYPE_CHECKING:
    from talkgen.models.vqgan.vqgan import VQGAN

SMALLEST_DEVIATION = 1e-5  # a channel that never varies is left alone rather than blown up


class LatentScale(nn.Module):
    """z ↦ (z − μ) / σ a channel, and back; μ and σ are those of a codebook's vectors.

    A codebook's scale is whatever its training made of it (the published ones begin at ±1/K), so a network
    that takes latents as they are sees inputs of another size with every VQGAN. The statistics are buffers:
    they travel with the weights of the network that holds them. Until they are set, nothing is changed.

        scale = LatentScale(vqgan.dim)
        scale.set_from(codebook_vectors(vqgan))
        latent = scale.restore(network(scale.normalise(latent)))

    Args:
        dim: channels of a latent, d.

    Shapes: ``(…, d, h, w)`` → the same.
    """

    mean: Tensor  # (d,)
    deviation: Tensor  # (d,)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    @torch.no_grad()
    def set_from(self, vectors: Float[Tensor, "n d"]) -> None:
        """Take the statistics of ``vectors``, such as the codes of a codebook (or of both)."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim or len(vectors) < 2:
            raise ValueError(
                f"statistics of {self.dim} channels take (n ≥ 2, {self.dim}) vectors, "
                f"not {tuple(vectors.shape)}"
            )
        deviation, mean = torch.std_mean(vectors.float(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > SMALLEST_DEVIATION, deviation, 1.0))

    def normalise(self, latent: Tensor) -> Tensor:
        """Latent as ``VQGAN.lookup`` gives it → mean 0 and variance 1 a channel."""
        return (latent - self.mean[:, None, None]) / self.deviation[:, None, None]

    def restore(self, latent: Tensor) -> Tensor:
        """The way back, to what ``VQGAN.decode`` takes."""
        return latent * self.deviation[:, None, None] + self.mean[:, None, None]


@torch.no_grad()
def codebook_vectors(vqgan: VQGAN) -> Float[Tensor, "n d"]:
    """The codes of a VQGAN's codebook, or of both, as ``lookup`` gives them."""
    count = vqgan.quantize.codes
    device = vqgan.post_quant_conv.weight.device
    # A map of two rows: with two codebooks the first is looked up in the upper one, the second in the lower.
    latent = vqgan.lookup(torch.arange(count, device=device).expand(1, 2, count))
    return latent[0].flatten(1).T
