"""The mouth's part of pictures and of latent maps, by landmarks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from talkgen.losses.reconstruction import MOUTH, region_weight
from talkgen.models.layers.warp import warp_affine


def mouth_crop(
    picture: Float[Tensor, "n 3 h w"], landmarks: Float[Tensor, "n 68 2"], size: int, extent: float = 1.8
) -> Float[Tensor, "n 3 size size"]:
    """The square around each mouth; gradients reach the pictures.

    Args:
        picture: any range.
        landmarks: iBUG points in pixels of ``picture``.
        size: side of the crop in pixels.
        extent: side of the square in widths of the mouth (of the larger of width and height).
    """
    mouth = landmarks[:, MOUTH].float()
    low, high = mouth.amin(1), mouth.amax(1)
    centre, side = (low + high) / 2, extent * (high - low).amax(1).clamp_min(1.0)
    scale = size / side
    matrix = torch.zeros(len(picture), 2, 3, device=picture.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    # Pixels are their centres: the middle of a crop of n pixels lies at (n − 1) / 2.
    matrix[:, :, 2] = (size - 1) / 2 - scale[:, None] * centre
    return warp_affine(picture, matrix, size, padding="border")


def mouth_cells(
    landmarks: Float[Tensor, "n 68 2"], rows: int, columns: int, factor: int, margin: float = 0.35
) -> Float[Tensor, "n 1 rows columns"]:
    """How much of each cell of the lower half of a latent map the mouth covers, from 0 to 1.

    Args:
        landmarks: iBUG points in pixels of the whole picture.
        rows: of half a map.
        columns: of a map.
        factor: pixels of a cell's side.
        margin: by how much of its size the mouth's box is enlarged on each side.
    """
    inside = (
        region_weight(landmarks.float(), 2 * rows * factor, columns * factor, mouth=2.0, margin=margin) - 1
    )
    return F.avg_pool2d(inside, factor)[:, :, rows:]
