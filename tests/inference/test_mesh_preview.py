"""The mesh that coefficients draw: where landmarks are, what moves it, and the video of it."""

from __future__ import annotations

import numpy as np
import pytest

from talkgen.face3d.coefficients import ANGLE, EXPRESSION, SIZE, rotation
from talkgen.face3d.head import build_head
from talkgen.face3d.rasterizer import Camera
from talkgen.inference.mesh_preview import MeshPreview, write_mesh
from talkgen.video.reader import probe, read_frames

CAMERA = Camera(size=96)


@pytest.fixture(scope="module")
def preview() -> MeshPreview:
    return MeshPreview(build_head(), CAMERA)


def still() -> np.ndarray:
    return np.zeros(SIZE, np.float32)


def test_landmarks_lie_where_the_model_has_them(preview):
    """The nose's tip is the landmark nearest to the camera, and its highlight is where it is projected."""
    model, coefficients = build_head(), still()
    coefficients[:80] = np.random.default_rng(0).normal(size=80) * 0.5
    coefficients[ANGLE] = 0.05, 0.2, -0.1
    coefficients[254:] = 0.1, -0.05, 0.2
    points = preview.vertices(coefficients)[model.landmark_vertices]
    expected = model.landmarks68(coefficients[:80], coefficients[EXPRESSION])
    assert points == pytest.approx(expected @ rotation(coefficients[ANGLE]).T + coefficients[254:], abs=1e-4)


def test_the_mesh_stands_before_the_ground(preview):
    picture = preview(still())
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
    ground = picture[2, 2].astype(int)
    face = np.abs(picture.astype(int) - ground).sum(-1) > 30
    assert 0.2 < face.mean() < 0.9 and face[48, 48]
    assert np.array_equal(preview(still()), picture)


def test_expression_changes_the_face_and_pose_all_of_it(preview):
    model, random = build_head(), np.random.default_rng(1)
    first = preview(still()).astype(int)
    lips = still()
    generators = np.zeros(64)
    generators[model.generator_names.index("jaw_open")] = 0.8
    lips[EXPRESSION] = model.generators_to_coefficients(generators)
    changed = np.abs(preview(lips) - first).sum(-1) > 30
    rows = np.flatnonzero(changed.any(1))
    assert changed.any() and rows.min() > 48  # below the eyes alone
    turned = still()
    turned[ANGLE] = random.normal(size=3) * 0.3
    assert (np.abs(preview(turned) - first).sum(-1) > 30).mean() > changed.mean()


def test_grey_has_no_colours():
    picture = MeshPreview(build_head(), CAMERA, colours=False, samples=2)(still()).astype(int)
    assert np.abs(picture[..., 0] - picture[..., 1]).max() <= 12
    assert picture.std() > 20


def test_a_video_of_it(preview, tmp_path):
    coefficients = np.repeat(still()[None], 5, 0)
    file = write_mesh(preview, coefficients, tmp_path / "mesh.mp4", audio=(np.zeros(3200, np.float32), 16000))
    info = probe(file)
    assert (info.frames, info.width, info.fps, info.has_audio) == (5, 96, 25, True)
    frame = next(iter(read_frames(file))).astype(int)
    assert np.abs(frame - preview(still())).mean() < 4
