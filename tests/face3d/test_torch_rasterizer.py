"""The rasterizer in PyTorch: the compiled one's triangles, weights that interpolate, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkgen.face3d.coefficients import rotation
from talkgen.face3d.head import build_head
from talkgen.face3d.rasterizer import Camera, rasterize
from talkgen.face3d.torch_rasterizer import rasterize_batch

SQUARE = torch.tensor([[[-2.0, -2, 0], [2, -2, 0], [2, 2, 0], [-2, 2, 0]]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])
CAMERA = Camera(focal=1.0, distance=10.0, size=100)  # at z = 0 a pixel is 0.1 wide


@pytest.fixture(scope="module")
def heads():
    """Three people who look elsewhere, move their faces and overlap the picture's rim."""
    model, random = build_head(), np.random.default_rng(0)
    points = []
    for shift in (0.0, 0.4, 0.9):
        expression = random.normal(size=64) * model.expression_deviation
        turn = rotation(random.normal(size=3) * 0.3)
        points.append(model.vertices(random.normal(size=80), expression) @ turn.T + [shift, 0, 0])
    return np.stack(points).astype(np.float32), model.triangles


@pytest.mark.parametrize("two_sided", [False, True])
def test_the_triangles_are_those_of_the_compiled_rasterizer(heads, two_sided):
    points, triangles = heads
    camera = Camera(size=128)
    ours = rasterize_batch(torch.from_numpy(points), triangles, camera, two_sided)
    compiled = [rasterize(one, triangles, camera, two_sided) for one in points]
    assert np.array_equal(ours.triangle, np.stack([one.triangle for one in compiled]))
    depth = np.stack([one.inverse_depth for one in compiled])
    assert ours.inverse_depth.numpy() == pytest.approx(depth, abs=1e-6)
    assert (ours.triangle[0] >= 0).float().mean() > 0.2


def test_pixels_on_an_edge_belong_to_either_side_at_the_same_depth(heads):
    """In large pictures some pixel centres lie on an edge to the last bit, and rounding decides."""
    points, triangles = heads
    camera = Camera(size=512)
    ours = rasterize_batch(torch.from_numpy(points), triangles, camera)
    compiled = [rasterize(one, triangles, camera) for one in points]
    other = ours.triangle.numpy() != np.stack([one.triangle for one in compiled])
    assert other.mean() < 1e-4
    depth = np.stack([one.inverse_depth for one in compiled])
    assert ours.inverse_depth.numpy() == pytest.approx(depth, abs=1e-6)


def test_interpolated_corners_are_the_points_behind_the_pixels():
    """Perspective: what lies at a pixel is projected back onto it."""
    tilted = SQUARE.clone()
    tilted[..., 2] = tilted[..., 0]
    raster = rasterize_batch(tilted, FACES, CAMERA)
    place = raster.interpolate(tilted, torch.from_numpy(FACES))[0].numpy()
    seen = raster.triangle[0].numpy() >= 0
    rows, columns = np.nonzero(seen)
    assert CAMERA.project(place[seen]) == pytest.approx(np.stack([columns, rows], 1), abs=1e-3)
    assert not place[~seen].any()
    assert seen.any() and not seen.all()


def test_gradients_of_weights_are_those_of_small_steps():
    random = np.random.default_rng(1)
    points = SQUARE + torch.from_numpy(random.normal(size=(1, 4, 3)).astype(np.float32)) * 0.1
    values = torch.tensor([[[0.0], [1.0], [5.0], [2.0]]])

    def at_pixel(where: torch.Tensor) -> torch.Tensor:
        return rasterize_batch(where, FACES, CAMERA).interpolate(values, torch.from_numpy(FACES))[
            0, 41, 57, 0
        ]

    points.requires_grad_()
    (slope,) = torch.autograd.grad(at_pixel(points), points)
    direction = torch.from_numpy(random.normal(size=(1, 4, 3)).astype(np.float32))
    with torch.no_grad():
        step = (at_pixel(points + 1e-2 * direction) - at_pixel(points - 1e-2 * direction)) / 2e-2
    assert float((slope * direction).sum()) == pytest.approx(float(step), rel=0.02)
    assert step.abs() > 0.1


def test_back_faces_are_culled_and_large_triangles_clipped():
    turned = FACES[:, ::-1].copy()
    assert (rasterize_batch(SQUARE, turned, CAMERA).triangle < 0).all()
    assert (rasterize_batch(SQUARE, turned, CAMERA, two_sided=True).triangle >= 0).sum() == 1600
    assert (rasterize_batch(SQUARE * 10, FACES, CAMERA).triangle >= 0).all()
