"""Losses of SwapTalk's face-swapping module, one value a sample, and their mean over samples they concern.

Samples are of several kinds (``talkgen.data.swap_pairs.KINDS``), and not every loss has a meaning for each:
where nothing is the label, there is no distance to it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from talkgen.global_batch import mean_over_processes, processes
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.vqgan.quantizer import HalvesQuantizer, VectorQuantizer


def mean_where(values: Float[Tensor, " b"], mask: Bool[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean of the values whose mask is set; 0 (with a gradient of 0) where none is.

    The number of those values is that of all processes over that of processes, so that the mean of what
    processes get is the mean over all values.
    """
    count = mean_over_processes(mask.sum().float())
    return torch.where(mask, values, 0.0).sum() / count.clamp_min(1 / processes())


def latent_distance(
    swapped: Float[Tensor, "b d h w"], label: Float[Tensor, "b d h w"], scale: LatentScale, beta: float = 1.0
) -> Float[Tensor, " b"]:
    """L_proxy(T̂_VQ, Res_VQ): smooth L1 of latents at unit variance (the paper names no distance).

    Args:
        swapped: latents that a network gave.
        label: what they should be.
        scale: brings both to unit variance, so that the loss weighs the same with every VQGAN.
        beta: where the square ends and the straight line begins, in standard deviations.
    """
    distance = F.smooth_l1_loss(scale.normalise(swapped), scale.normalise(label), reduction="none", beta=beta)
    return distance.mean(dim=(1, 2, 3))


def identity_distance(generated: Float[Tensor, "b e"], wanted: Float[Tensor, "b e"]) -> Float[Tensor, " b"]:
    """L_id = 1 − cos of directions, unit vectors both; the gradient flows to ``generated`` only."""
    return 1 - (generated * wanted.detach()).sum(dim=1)


def code_cross_entropy(
    latent: Float[Tensor, "b d h w"],
    codes: Int[Tensor, "b h w"],
    quantizer: VectorQuantizer | HalvesQuantizer,
    temperature: float = 0.1,
) -> Float[Tensor, " b"]:
    """Cross-entropy of a softmax over codes e with logits −‖z − e‖² / (τ·s), against the label's codes.

    A regressed latent lies between codes; a decoder has seen codes only. (CodeFormer predicts codes by a head
    of their own; here the latent itself is pulled towards the right one and away from its neighbours.) In
    float32 also under autocast: the logits are small differences of large numbers.

    Args:
        latent: as a network gave them.
        codes: the label's indices.
        quantizer: of the VQGAN. With two codebooks upper rows are compared with the upper one.
        temperature: τ, in units of s, the mean squared distance between codes of a codebook.
    """
    halves = [(quantizer, latent, codes)]
    if isinstance(quantizer, HalvesQuantizer):
        books = (quantizer.upper, quantizer.lower)
        halves = list(zip(books, latent.chunk(2, dim=2), codes.chunk(2, dim=1), strict=True))
    losses = []
    for book, z, wanted in halves:
        # A map of one row holds the whole table.
        e = book.lookup(torch.arange(book.codes, device=latent.device)[None, None])[0].flatten(1).T
        spread = 2 * e.var(dim=0, correction=0).sum().clamp_min(1e-12)  # mean ‖e − e'‖² of two codes
        with torch.autocast(latent.device.type, enabled=False):
            # ‖z‖² is the same for all codes, so a softmax does not see it
            logits = 2 * torch.einsum("bdhw,kd->bkhw", z.float(), e) - e.square().sum(1)[:, None, None]
        losses.append(F.cross_entropy(logits / (temperature * spread), wanted, reduction="none"))
    return torch.cat(losses, dim=1).mean(dim=(1, 2))
