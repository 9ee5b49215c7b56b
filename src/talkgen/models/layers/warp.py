"""Differentiable affine warps, in the convention of ``cv2.warpAffine``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def invert_affine(matrices: Tensor) -> Tensor:
    """Inverses of 2×3 matrices: (…, 2, 3) → (…, 2, 3)."""
    linear, shift = matrices[..., :2], matrices[..., 2:]
    inverse = torch.linalg.inv(linear)
    return torch.cat([inverse, -inverse @ shift], dim=-1)


def warp_affine(
    images: Tensor,
    matrices: Tensor,
    size: int | tuple[int, int],
    padding: Literal["zeros", "border", "reflection"] = "zeros",
    samples: int = 1,
) -> Tensor:
    """Warp images by 2×3 matrices that map input pixels to output pixels, bilinearly.

    The same numbers as ``cv2.warpAffine(image, matrix, (width, height))``: the centre of the top-left pixel
    is (0, 0) on both sides. Gradients reach the images (and the matrices).

    Args:
        images: (b, c, h, w), any float range; ``padding="zeros"`` fills with 0, which is mid-grey in [-1, 1].
        matrices: (b, 2, 3), input → output.
        size: output (height, width), or one number for both.
        padding: what lies outside.
        samples: bilinear samples per output pixel along each axis, averaged. 1 is cv2's way and aliases where
            the image shrinks by more than 2; ``samples`` ≥ the shrink factor reads every input pixel, so that
            each gets a gradient.

    Returns:
        (b, c, height, width).
    """
    height, width = (size, size) if isinstance(size, int) else size
    inverse = invert_affine(matrices.to(torch.float32))

    def positions(count: int) -> Tensor:
        # Centres of `samples` equal cells of each output pixel; the pixel's own centre when there is one.
        cells = torch.arange(count * samples, device=images.device, dtype=torch.float32)
        return (cells + 0.5) / samples - 0.5

    x, y = positions(width), positions(height)
    # input = inverse · (x, y, 1), per axis: a column and a row are enough, the sum broadcasts.
    points = (
        inverse[:, None, None, :, 0] * x[None, None, :, None]
        + inverse[:, None, None, :, 1] * y[None, :, None, None]
        + inverse[:, None, None, :, 2]
    )
    # grid_sample with align_corners=False: pixel i of n lies at (2 i + 1) / n - 1.
    extent = torch.tensor([images.shape[-1], images.shape[-2]], device=images.device, dtype=torch.float32)
    grid = (2 * points + 1) / extent - 1
    warped = F.grid_sample(
        images, grid.to(images.dtype), mode="bilinear", padding_mode=padding, align_corners=False
    )
    return F.avg_pool2d(warped, samples) if samples > 1 else warped
