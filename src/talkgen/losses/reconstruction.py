"""Pixel losses, everywhere or where it matters."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

MOUTH = slice(48, 68)  # iBUG-68
EYES = slice(36, 48)


def weighted_l1(
    generated: Float[Tensor, "b c h w"],
    ground_truth: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Σ w·|x̂ − x| / Σ w of each picture, and their mean; without weights the mean of all.

    A mask of zeros and ones is a weight. Every picture counts alike, however large its weights are, so that
    parts of a batch on several devices give what the whole batch gives.
    """
    difference = (generated - ground_truth).abs()
    if weight is None:
        return difference.mean()
    weight = weight.expand_as(difference)
    return ((weight * difference).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-8)).mean()


def region_weight(
    landmarks: Float[Tensor, "b 68 2"],
    height: int,
    width: int,
    mouth: float = 1.0,
    eyes: float = 1.0,
    margin: float = 0.25,
) -> Float[Tensor, "b 1 h w"]:
    """1 everywhere, ``mouth`` and ``eyes`` inside those landmarks' boxes; the larger where they overlap.

    Args:
        landmarks: iBUG-68 points, pixels of the picture.
        height: of the picture.
        width: of the picture.
        mouth: weight of the mouth's box.
        eyes: weight of the box around both eyes.
        margin: by how much of its size a box is enlarged on each side.
    """
    weight = landmarks.new_ones(len(landmarks), 1, height, width)
    y = torch.arange(height, device=landmarks.device)[None, :, None]
    x = torch.arange(width, device=landmarks.device)[None, None, :]
    for region, value in ((MOUTH, mouth), (EYES, eyes)):
        low, high = landmarks[:, region].amin(1), landmarks[:, region].amax(1)
        grow = margin * (high - low)
        (x0, y0), (x1, y1) = ((corner.unbind(1)) for corner in (low - grow, high + grow))
        columns = (x >= x0[:, None, None]) & (x <= x1[:, None, None])
        rows = (y >= y0[:, None, None]) & (y <= y1[:, None, None])
        inside = (columns & rows).unsqueeze(1)
        weight = torch.where(inside, weight.clamp_min(value), weight)
    return weight


def region_box(
    landmarks: Float[Tensor, "b 68 2"], height: int, width: int, region: Literal["mouth", "eyes"]
) -> Float[Tensor, "b 1 h w"]:
    """1 inside the box of a region, 0 elsewhere; see ``region_weight``."""
    return region_weight(landmarks, height, width, **{region: 2.0}) - 1
