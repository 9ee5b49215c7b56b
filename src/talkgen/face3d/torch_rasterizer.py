"""Triangles to pixels in plain PyTorch: batched, on any device, with gradients; the triangles that
`rasterizer.rasterize` finds.

Each triangle is tested against the pixels of its box. Boxes of about one size go through together, and the
nearest triangle of a pixel is one integer minimum over ``depth << 32 | triangle``, so that the result does
not depend on the order in which threads write. On a CPU the compiled z-buffer of `rasterizer` is many times
faster; this is for GPUs, and for gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.face3d.rasterizer import Camera

_AT_ONCE = 2**22  # pairs of a triangle and a pixel in memory
_TRIANGLE = 0xFFFFFFFF  # the lower half of a key
_FARTHEST = 0x7F800000  # bits of float32 infinity; positive floats are ordered as their bits are
_NOTHING = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class BatchRaster:
    """What each pixel of each picture sees.

    Attributes:
        triangle: (b, size, size) int64, -1 where nothing is seen.
        weights: (b, size, size, 3) float32 share of each corner, corrected for perspective; 0 where nothing
            is seen. Gradients reach the points, but not through which triangle is seen.
        inverse_depth: (b, size, size) float32, 1 / distance from the camera; 0 where nothing is seen.
    """

    triangle: Tensor
    weights: Tensor
    inverse_depth: Tensor

    def interpolate(self, values: Tensor, triangles: Tensor) -> Tensor:
        """Values of vertices, ``(b or 1, n, c)``, at every pixel: (b, size, size, c), 0 where nothing is
        seen."""
        values = values.expand(len(self.triangle), -1, -1)
        picture = torch.arange(len(values), device=values.device)[:, None, None, None]
        corners = values[picture, triangles[self.triangle.clamp_min(0)]]
        return (self.weights[..., None] * corners).sum(-2)


def rasterize_batch(
    points: Tensor, triangles: Tensor | NDArray[np.integer], camera: Camera, two_sided: bool = False
) -> BatchRaster:
    """Find the nearest triangle of every pixel.

    Args:
        points: (b, n, 3) float32 in camera space.
        triangles: (m, 3), counter-clockwise towards the viewer.
        camera: projection and picture size.
        two_sided: draw triangles that face away, too.
    """
    faces = torch.as_tensor(triangles, device=points.device).long()
    screen = _to_screen(points.float(), camera)
    with torch.no_grad():
        seen = _nearest(screen, faces, camera.size, two_sided)
    picture, row, column = torch.nonzero(seen >= 0, as_tuple=True)
    corners = screen[picture[:, None], faces[seen[picture, row, column]]]
    b0, b1 = _on_screen(corners, column.float(), row.float())
    onscreen = torch.stack([b0, b1, 1 - b0 - b1], -1)
    by_depth = onscreen * corners[..., 2]
    depth = by_depth.sum(-1)
    weights = points.new_zeros(*seen.shape, 3, dtype=torch.float32)
    inverse_depth = points.new_zeros(seen.shape, dtype=torch.float32)
    place = (picture, row, column)
    return BatchRaster(
        triangle=seen,
        weights=weights.index_put(place, by_depth / depth[:, None]),
        inverse_depth=inverse_depth.index_put(place, depth),
    )


def _to_screen(points: Tensor, camera: Camera) -> Tensor:
    """x and y in pixels, and 1 / distance."""
    inverse = 1.0 / (camera.distance - points[..., 2])
    middle = 0.5 * (camera.size - 1)
    scale = camera.focal * camera.size * inverse
    return torch.stack([middle + points[..., 0] * scale, middle - points[..., 1] * scale, inverse], -1)


def _on_screen(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the first and second corner (…, 3, 3) at x and y."""
    (x0, y0, _), (x1, y1, _), (x2, y2, _) = (corner.unbind(-1) for corner in corners.unbind(-2))
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    b0 = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) / area
    b1 = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) / area
    return b0, b1


def _nearest(screen: Tensor, faces: Tensor, size: int, two_sided: bool) -> Tensor:
    """Numbers of the triangles that are seen, (b, size, size); -1: none."""
    corners = screen[:, faces]  # b, m, 3, 3
    x, y = corners[..., 0], corners[..., 1]
    area = (x[..., 1] - x[..., 0]) * (y[..., 2] - y[..., 0])
    area = area - (x[..., 2] - x[..., 0]) * (y[..., 1] - y[..., 0])
    low = torch.stack([x.amin(-1), y.amin(-1)], -1).ceil().clamp(0, size).long()
    high = torch.stack([x.amax(-1), y.amax(-1)], -1).floor().clamp(-1, size - 1).long()
    extent = (high - low).amax(-1) + 1
    # y runs down: triangles that face us turn clockwise
    drawn = (area.abs() >= 1e-9) & (high >= low).all(-1) & ((area < 0) | two_sided)
    keys = torch.full((len(screen) * size * size,), _NOTHING, device=screen.device)
    side = 1
    while side < 2 * size:
        chosen = torch.nonzero(drawn & (extent > side // 2) & (extent <= side))
        offset = torch.arange(side, device=screen.device)
        for part in chosen.split(max(1, _AT_ONCE // side**2)):
            picture, face = part.unbind(1)
            first, last = low[picture, face], high[picture, face]
            column = (first[:, 0, None, None] + offset).expand(-1, side, -1)
            row = (first[:, 1, None, None] + offset[:, None]).expand(-1, -1, side)
            within = corners[picture, face][:, None, None]
            b0, b1 = _on_screen(within, column.float(), row.float())
            b2 = 1.0 - b0 - b1
            hit = (b0 >= -1e-6) & (b1 >= -1e-6) & (b2 >= -1e-6)
            hit &= (column <= last[:, 0, None, None]) & (row <= last[:, 1, None, None])
            z = b0 * within[..., 0, 2] + b1 * within[..., 1, 2] + b2 * within[..., 2, 2]
            far = _FARTHEST - z[hit].view(torch.int32).long()
            pixel = (picture[:, None, None] * size + row) * size + column
            key = (far << 32) | face[:, None, None].expand_as(pixel)[hit]
            keys.scatter_reduce_(0, pixel[hit], key, "amin")
        side *= 2
    return torch.where(keys == _NOTHING, -1, keys & _TRIANGLE).view(len(screen), size, size)
