"""Triangles to pixels: coverage, depth, weights, light."""

import numpy as np
import pytest

from talkgen.face3d.lighting import gamma_of_lights, harmonics, key_direction, polynomial
from talkgen.face3d.rasterizer import SKIN, Camera, Renderer, Scene, rasterize, vertex_normals

CAMERA = Camera(focal=1.0, distance=10.0, size=100)  # at z = 0 a pixel is 0.1 wide


def test_projection_by_hand():
    assert CAMERA.project(np.array([0.0, 0.0, 0.0])) == pytest.approx([49.5, 49.5])
    assert CAMERA.project(np.array([1.0, 2.0, 0.0])) == pytest.approx([59.5, 29.5])
    assert CAMERA.project(np.array([1.0, 0.0, 5.0])) == pytest.approx([69.5, 49.5])  # nearer is larger


def square(z: float, half: float = 2.0) -> np.ndarray:
    return np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])


FACES = np.array([[0, 1, 2], [0, 2, 3]])


def test_a_square_covers_its_pixels_and_no_other():
    raster = rasterize(square(0.0), FACES, CAMERA)
    seen = raster.triangle >= 0
    # x from 29.5 to 69.5: pixel centres 30 to 69
    assert seen.sum() == 40 * 40
    assert seen[30:70, 30:70].all()
    assert raster.inverse_depth[50, 50] == pytest.approx(0.1)
    assert raster.inverse_depth[0, 0] == 0.0


def test_weights_give_the_pixel_back():
    raster = rasterize(square(0.0), FACES, CAMERA)
    y, x = 41, 57
    corners = CAMERA.project(square(0.0))[FACES[raster.triangle[y, x]]]
    b0, b1 = raster.barycentric[y, x]
    assert corners.T @ [b0, b1, 1 - b0 - b1] == pytest.approx([x, y], abs=1e-3)


def test_the_nearer_triangle_wins_whatever_the_order():
    both = np.concatenate([square(0.0), square(1.0, 1.0)])
    for faces in (np.concatenate([FACES, FACES + 4]), np.concatenate([FACES + 4, FACES])):
        raster = rasterize(both, faces, CAMERA)
        near = faces[raster.triangle[50, 50]].min() >= 4
        far = faces[raster.triangle[32, 32]].max() < 4
        assert near and far


def test_back_faces_are_culled_unless_asked_for():
    turned = FACES[:, ::-1]
    assert (rasterize(square(0.0), turned, CAMERA).triangle < 0).all()
    assert (rasterize(square(0.0), turned, CAMERA, two_sided=True).triangle >= 0).sum() == 1600


def test_triangles_outside_the_picture_are_clipped():
    raster = rasterize(square(0.0) + np.array([4.0, 0.0, 0.0]), FACES, CAMERA)
    assert (raster.triangle >= 0).sum() == 40 * 30  # x from 69.5 on, thirty columns are left


def test_normals_of_a_square():
    assert vertex_normals(square(0.0), FACES) == pytest.approx(np.tile([0, 0, 1], (4, 1)))


def test_light_polynomial_equals_the_harmonics():
    random = np.random.default_rng(0)
    gamma = random.normal(size=27) * 0.3
    n = random.normal(size=(50, 3))
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    bands = gamma.reshape(3, 9).copy()
    bands[:, 0] += 0.8
    expected = harmonics(n) @ bands.T
    x, y, z = n.T
    terms = np.stack([np.ones(50), x, y, z, x * y, y * z, z * z, x * z, x * x - y * y], 1)
    assert terms @ polynomial(gamma).T == pytest.approx(expected, abs=1e-5)


def test_a_lamp_lights_the_side_that_faces_it():
    direction = np.array([[1.0, 0.5, 0.5]])
    gamma = gamma_of_lights(direction, np.array([[1.0, 0.5, 0.25]]), np.full(3, 0.2))
    unit = direction[0] / np.linalg.norm(direction)
    bands = gamma.reshape(3, 9).copy()
    bands[:, 0] += 0.8
    lit, dark = harmonics(unit) @ bands.T, harmonics(-unit) @ bands.T
    assert lit == pytest.approx([1.2, 0.7, 0.45], abs=0.1)
    assert dark == pytest.approx([0.2, 0.2, 0.2], abs=0.1)
    assert key_direction(gamma) @ unit > 0.99


def picture(samples: int, albedo: float = 0.5, detail: int = 128, shift: float = 0.0) -> np.ndarray:
    scene = Scene(
        triangles=FACES.astype(np.int32),
        material=np.full(2, SKIN, dtype=np.uint8),
        colour=np.full((4, 3), albedo, dtype=np.float32),
        occlusion=np.ones(4, dtype=np.float32),
        cutout=np.ones(4, dtype=np.float32),
        uv=np.zeros((4, 2), dtype=np.float32),
        texture=np.full((2, 2, 3), detail, dtype=np.uint8),
    )
    even = gamma_of_lights(np.array([[0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.ones(3))
    key = np.array([-1.0, 0.0, 0.0], dtype=np.float32)  # beside: no highlight
    background = np.full((100, 100, 3), 0.2, dtype=np.float32)
    draw = Renderer(scene, CAMERA, samples)
    points = (square(0.0) + np.array([shift, 0.0, 0.0])).astype(np.float32)
    return draw(points, polynomial(even), key, background)


def test_an_evenly_lit_square_shows_its_albedo_on_the_background():
    drawn = picture(1)
    highlight = 0.10 * np.sqrt(0.5) ** 8  # half vector at 45 degrees, exponent 8
    assert drawn[50, 50] == pytest.approx(np.full(3, 255 * (0.5 + highlight)), abs=1.5)
    assert drawn[5, 5] == pytest.approx(np.full(3, 51), abs=1)
    assert picture(1, detail=64)[50, 50, 0] == pytest.approx(255 * (0.25 + highlight), abs=1.5)


def test_antialiasing_mixes_at_the_edge_only():
    sharp, soft = picture(1), picture(4)
    assert len(np.unique(sharp[50, :, 0])) == 2
    assert np.array_equal(sharp[50, 35:65], soft[50, 35:65])
    half = picture(4, shift=0.05)[50, 30, 0]  # the edge now goes through the middle of pixel 30
    inside, outside = float(soft[50, 50, 0]), float(soft[50, 5, 0])
    assert half == pytest.approx((inside + outside) / 2, abs=2)
