from __future__ import annotations

import sys

import numpy as np
import pytest

from talkgen import weights
from talkgen.errors import MissingPackage, MissingWeights
from talkgen.faces.detection import DETECTORS, make_detector
from talkgen.faces.tracking import box_iou
from talkgen.video.reader import read_frames


def test_the_default_finds_one_face_in_every_frame(clips, detector):
    find = detector("insightface").detect
    for clip in [clip for clip in clips if clip.stem in ("vrt2", "grid_bbaf2n", "kanghui", "lia2")]:
        counts = [len(find(frame)) for frame in read_frames(clip, fps=12.5)]
        assert counts == [1] * len(counts), clip


def test_keypoints_are_in_order_and_inside_the_box(portraits, detector):
    for name, frame in portraits.items():
        (face,) = detector("insightface").detect(frame)
        left_eye, right_eye, nose, left_mouth, right_mouth = face.keypoints
        assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0], name
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1]), name
        assert (face.keypoints >= face.box[:2]).all() and (face.keypoints <= face.box[2:]).all()
        assert face.box.dtype == face.keypoints.dtype == np.float32
        assert 0.5 <= face.score <= 1


@pytest.mark.parametrize("name", [name for name in DETECTORS if name != "insightface"])
def test_backends_agree(portraits, detector, name):
    """Same face, same five points: within a tenth of the distance between the eyes, on average."""
    other = detector(name)
    errors, overlaps = [], []
    for frame in portraits.values():
        (face,) = detector("insightface").detect(frame)
        found = other.detect(frame)
        if not found:  # small faces: see the class's docstring
            continue
        overlaps.append(box_iou(found[0].box, face.box))
        eyes = np.linalg.norm(face.keypoints[0] - face.keypoints[1])
        errors.append(np.linalg.norm(found[0].keypoints - face.keypoints, axis=1).mean() / eyes)
    assert len(errors) >= 0.8 * len(portraits)
    assert np.mean(errors) < 0.1
    assert np.mean(overlaps) > 0.55  # each network draws its box around another part of the head


def test_size_and_place_do_not_matter(portraits, detector):
    """The same face in a large frame, a small one and at another place gives the same points."""
    import cv2

    frame = portraits["may"]
    find = detector("insightface").detect
    (face,) = find(frame)
    wide = np.zeros((1080, 1920, 3), np.uint8)
    wide[300 : 300 + 512, 1000 : 1000 + 512] = frame
    (moved,) = find(wide)
    eyes = np.linalg.norm(face.keypoints[0] - face.keypoints[1])
    assert np.abs(moved.keypoints - face.keypoints - [1000, 300]).max() < 0.08 * eyes
    (small,) = find(cv2.resize(frame, (171, 171), interpolation=cv2.INTER_AREA))
    assert np.abs((small.keypoints + 0.5) * (512 / 171) - 0.5 - face.keypoints).max() < 0.08 * eyes


def test_a_face_that_fills_the_picture_is_found(portraits, detector):
    frame = portraits["may"]
    (face,) = detector("insightface").detect(frame)
    x0, y0, x1, y1 = face.box.astype(int)
    close = np.ascontiguousarray(frame[y0 + 10 : y1, x0:x1])
    assert len(detector("insightface").detect(np.kron(close, np.ones((4, 4, 1), np.uint8)))) == 1


@pytest.mark.parametrize("name", list(DETECTORS))
def test_nothing_is_found_where_nothing_is(detector, name):
    find = detector(name).detect
    assert find(np.zeros((200, 301, 3), np.uint8)) == []
    assert find(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)) == []
    if name == "insightface":
        assert find(np.zeros((1, 1, 3), np.uint8)) == []


@pytest.mark.parametrize("name", list(DETECTORS))
def test_missing_weights_are_named_and_nothing_is_downloaded(name, tmp_path, monkeypatch):
    pytest.importorskip({"face-alignment": "face_alignment"}.get(name, name))
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingWeights, match="talkgen weights"):
        make_detector(name)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(MissingPackage, match="pip install"):
        make_detector("dlib")


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="insightface, face-alignment, mediapipe, dlib"):
        make_detector("haar")


@pytest.mark.slow  # compiles the package's loops
def test_face_alignment_runs_on_files_of_its_layout(tmp_path, monkeypatch):
    """Its published weights may not be here; random ones of the same layout run, and see no face."""
    face_alignment = pytest.importorskip("face_alignment")
    import torch
    from face_alignment.detection.sfd.net_s3fd import s3fd

    torch.manual_seed(0)
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    torch.save(s3fd().state_dict(), weights.entry("s3fd").path)
    torch.save(face_alignment.models.FAN(4).state_dict(), weights.entry("fan_2d").path)
    detector = make_detector("face-alignment", threshold=0.99, size=64)
    assert detector.detect(np.random.default_rng(0).integers(0, 255, (160, 240, 3), dtype=np.uint8)) == []

    # A box found in the shrunken frame (64 × 43) is given in pixels of the frame.
    found = [np.array([32.0, 4.3, 60.0, 38.7, 0.9])]
    monkeypatch.setattr(detector._network, "detect_from_image", lambda picture: found)
    (face,) = detector.detect(np.zeros((160, 240, 3), np.uint8))
    np.testing.assert_allclose(face.box, [120, 16, 225, 144], rtol=1e-5)
    assert face.score == 0.9 and face.keypoints.shape == (5, 2) and np.isfinite(face.keypoints).all()
