"""What motion of a face is taught: its numbers region by region, and their changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from talkgen.losses.weights import MotionWeights


@dataclass(frozen=True)
class MotionErrors:
    """One number an item, unweighted but for the regions.

    Attributes:
        motion: Σ_r w_r ‖z_r − ẑ_r‖² (mean within a region).
        velocity: the same of z_t − z_{t−1}.
        smoothness: the same of ẑ's third differences.
        regions: ``(b, regions)``: mean squared error of each.
    """

    motion: Float[Tensor, " b"]
    velocity: Float[Tensor, " b"]
    smoothness: Float[Tensor, " b"]
    regions: Float[Tensor, "b r"]


def region_weights(sizes: Sequence[int], weights: MotionWeights) -> Float[Tensor, " n"]:
    """The weight of each number of z; those of a region add up to the region's.

    Args:
        sizes: numbers of lips, eyes and the rest, or of everything.
        weights: of the regions. Where none are told apart, all of them together.
    """
    chosen = (weights.lip, weights.eye, weights.rest)
    shares = chosen if len(sizes) == 3 else (sum(chosen),)
    return torch.cat([torch.full((n,), w / n) for n, w in zip(sizes, shares, strict=True)])


def motion_errors(
    generated: Float[Tensor, "b t n"],
    truth: Float[Tensor, "b t n"],
    known: Float[Tensor, "b t"],
    sizes: Sequence[int],
    weight: Float[Tensor, " n"],
) -> MotionErrors:
    """Compare windows, leaving out the frames that were known.

    Args:
        generated: ẑ₀.
        truth: z₀.
        known: 1 for frames that were given; their changes into unknown ones count.
        sizes: see ``region_weights``.
        weight: see ``region_weights``.
    """
    free = 1 - known
    whole = torch.lerp(truth, generated, free[:, :, None])
    square = (whole - truth).square()
    change = (whole - truth).diff(dim=1).square()
    third = whole.diff(n=3, dim=1).square()
    count = free.sum(1).clamp_min(1)
    regions = torch.stack([part.mean(2).sum(1) for part in square.split(tuple(sizes), dim=2)], 1)
    return MotionErrors(
        (square @ weight).sum(1) / count,
        (change @ weight).sum(1) / count,
        (third @ weight).mean(1),
        regions / count[:, None],
    )
