from __future__ import annotations

import numpy as np
import pytest

from talkgen import weights
from talkgen.errors import FileError, MissingWeights
from talkgen.faces.detection import Face
from talkgen.faces.ibug import keypoints_from_landmarks, mouth_opening
from talkgen.faces.landmarks import IBUG_FROM_106, LANDMARKERS, make_landmarker
from talkgen.faces.mesh import IBUG_FROM_MESH

# iBUG points and their mirror images.
# fmt: off
MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on


def found(portraits, detector, landmarker, name):
    marks = landmarker(name)
    for clip, frame in portraits.items():
        (face,) = detector("insightface").detect(frame)
        yield clip, frame, face, marks.landmarks(frame, face)


@pytest.mark.parametrize("name", [name for name in LANDMARKERS if name != "dlib"])
def test_points_of_every_backend_mean_the_same(portraits, detector, landmarker, name):
    """Distance to dlib's points in distances between the outer eye corners; measured 0.031 and 0.033."""
    landmarker("dlib")
    errors = []
    for _, frame, face, points in found(portraits, detector, landmarker, name):
        reference = landmarker("dlib").landmarks(frame, face)
        eyes = np.linalg.norm(reference[36] - reference[45])
        errors.append(np.linalg.norm(points - reference, axis=1) / eyes)
    mean = np.mean(errors, axis=0)
    assert mean.mean() < 0.045
    assert mean[17:].mean() < 0.04
    assert mean[17:].max() < 0.09  # one wrong index would stand out


@pytest.mark.parametrize("name", list(LANDMARKERS))
def test_shape_order_and_place(portraits, detector, landmarker, name):
    for clip, _, face, points in found(portraits, detector, landmarker, name):
        assert points.shape == (68, 2) and points.dtype == np.float32
        eyes = np.linalg.norm(face.keypoints[0] - face.keypoints[1])
        error = np.linalg.norm(keypoints_from_landmarks(points) - face.keypoints, axis=1) / eyes
        assert error.max() < 0.3 and error.mean() < 0.12, clip
        assert points[8, 1] > points[57, 1] > points[51, 1] > points[33, 1] > points[27, 1], clip
        assert points[0, 0] < points[36, 0] < points[45, 0] < points[16, 0], clip
        assert points[61:64, 1].mean() <= points[65:68, 1].mean() + 1, clip  # upper inner lip above the lower


def test_mirroring_the_picture_mirrors_the_points(portraits, detector, landmarker):
    frame = portraits["may"]
    mirrored = np.ascontiguousarray(frame[:, ::-1])
    for name in ("insightface", "mediapipe"):
        marks = landmarker(name)
        there = marks.landmarks(frame, detector("insightface").detect(frame)[0])
        back = marks.landmarks(mirrored, detector("insightface").detect(mirrored)[0])[MIRROR]
        back[:, 0] = frame.shape[1] - 1 - back[:, 0]
        eyes = np.linalg.norm(there[36] - there[45])
        assert np.linalg.norm(there - back, axis=1).mean() / eyes < 0.04, name


def test_index_maps_are_complete():
    for table, points in ((IBUG_FROM_106, 106), (IBUG_FROM_MESH, 478)):
        assert table.shape == (68, 2) and table.min() >= 0 and table.max() < points
        assert len({tuple(row) for row in table.tolist()}) == 68  # no two iBUG points are the same


def test_a_mouth_that_opens_is_measured(clips, detector, landmarker):
    """InsightFace's mapped inner lips follow dlib's while someone speaks."""
    from talkgen.video.reader import read_frames

    (clip,) = [clip for clip in clips if clip.stem == "vrt2"]
    openings: dict[str, list[float]] = {"insightface": [], "mediapipe": []}
    for frame in read_frames(clip, fps=12.5):
        (face,) = detector("insightface").detect(frame)
        for name, values in openings.items():
            values.append(float(mouth_opening(landmarker(name).landmarks(frame, face))))
    assert np.corrcoef(*openings.values())[0, 1] > 0.8


@pytest.mark.parametrize("name", ["insightface", "mediapipe"])
def test_a_box_without_a_face_does_not_fail(landmarker, name):
    """Tracks are interpolated, so that a box may lie on no face, or outside the frame."""
    frame = np.zeros((100, 100, 3), np.uint8)
    for box in ((20, 20, 60, 70), (-50, -50, -10, -5), (300, 300, 340, 350)):
        face = Face(np.array(box, np.float32), 0.0, np.zeros((5, 2), np.float32))
        assert landmarker(name).landmarks(frame, face).shape == (68, 2)


@pytest.mark.parametrize("name", list(LANDMARKERS))
def test_missing_weights_are_named(name, tmp_path, monkeypatch):
    pytest.importorskip({"face-alignment": "face_alignment"}.get(name, name))
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match="talkgen weights"):
        make_landmarker(name)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("insightface", "landmarks_106"), ("dlib", "dlib_68"), ("face-alignment", "fan_2d")],
)
def test_broken_weights_are_named(name, weight, tmp_path, monkeypatch):
    pytest.importorskip({"face-alignment": "face_alignment"}.get(name, name))
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    file = weights.entry(weight).path
    file.write_bytes(b"this is no model" * 100)
    with pytest.raises(FileError, match=file.name):
        make_landmarker(name)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="insightface, face-alignment, mediapipe, dlib"):
        make_landmarker("openface")


def test_keypoints_and_mouth_opening_by_hand():
    points = np.zeros((2, 68, 2), np.float32)
    points[:, 36:42] = [30, 40]
    points[:, 42:48] = [70, 40]
    points[:, 30], points[:, 48], points[:, 54] = [50, 60], [40, 80], [60, 80]
    points[1, [61, 62, 63]] = [[45, 78], [50, 78], [55, 78]]
    points[1, [67, 66, 65]] = [[45, 88], [50, 90], [55, 88]]
    keypoints = keypoints_from_landmarks(points)
    np.testing.assert_array_equal(keypoints[0], [[30, 40], [70, 40], [50, 60], [40, 80], [60, 80]])
    np.testing.assert_allclose(mouth_opening(points), [0, (10 + 12 + 10) / 3 / 40], rtol=1e-6)


@pytest.mark.slow  # compiles the package's loops
def test_face_alignment_equals_the_package(tmp_path, monkeypatch):
    """Its published weights may not be here; random ones of the same layout go the same way through both."""
    face_alignment = pytest.importorskip("face_alignment")
    import torch
    from face_alignment.models import FAN

    torch.manual_seed(0)
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    network = FAN(4).eval()
    torch.save(network.state_dict(), weights.entry("fan_2d").path)
    frame = np.random.default_rng(0).integers(0, 255, (160, 240, 3), dtype=np.uint8)
    box = np.array([60.0, 40.0, 130.0, 125.0], np.float32)

    package = face_alignment.FaceAlignment.__new__(face_alignment.FaceAlignment)  # its constructor downloads
    package.face_alignment_net, package.device, package.dtype = network, "cpu", torch.float32
    package.landmarks_type, package.flip_input, package.max_batch_size = 1, True, 1
    package.face_detector = type("Detector", (), {"reference_scale": 195})()
    (expected,) = package.get_landmarks_from_image(frame, detected_faces=[box.tolist()])

    face = Face(box, 1.0, np.zeros((5, 2), np.float32))
    points = make_landmarker("face-alignment").landmarks(frame, face)
    np.testing.assert_allclose(points, expected, atol=1e-3)
    assert np.ptp(points, axis=0).min() > 5
