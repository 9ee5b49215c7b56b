from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import recipe
import torch

from talkgen import weights
from talkgen.metrics import pose_error
from talkgen.metrics.footage import Footage
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.pose_error import ExpressionError, PoseError, distance
from talkgen.models.experts.hopenet import degrees, load_hopenet, network_input
from talkgen.models.experts.tddfa import crop_face, head_angles
from talkgen.video.reader import read_frames


def test_published_degrees_and_error(reference: Path) -> None:
    numbers = np.load(reference / "blinks.npz")
    angles = degrees(torch.from_numpy(numbers["hopenet_logits"]))
    np.testing.assert_allclose(angles, numbers["hopenet_deg"], atol=1e-4)
    error = distance(angles[:3], angles[3:]).mean().item()
    assert error == pytest.approx(float(numbers["pose_err"][0]), rel=1e-5)


def test_published_network(reference: Path) -> None:
    keys = json.loads((reference / "hopenet_keys.json").read_text())
    network = load_hopenet(recipe.state_dict(keys, gain=0.45))
    numbers = np.load(reference / "hopenet.npz")
    frames = torch.from_numpy(recipe.uint8_noise((2, 3, 224, 224), 302)).permute(0, 2, 3, 1)
    with torch.inference_mode():
        logits = network(network_input(frames))
    published = numbers["hopenet_logits"]
    np.testing.assert_allclose(logits, published, atol=1e-5 * np.abs(published).max())
    np.testing.assert_allclose(degrees(logits), numbers["hopenet_deg"], atol=1e-3)


def test_a_sharp_bin_is_its_angle() -> None:
    logits = torch.full((66,), -50.0)
    logits[40] = 50
    assert degrees(logits).item() == pytest.approx(3 * 40 - 99)


def test_metric_compares_with_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    missing = PoseError("hopenet")
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    missing.update(Footage(0, frames, frames))
    assert missing.per_clip() == {} and "hopenet" in str(missing.lacking)
    (tmp_path / weights.entry("hopenet").file).touch()
    monkeypatch.setattr(pose_error, "hopenet_angles", lambda: lambda x: x[:, 0, 0].double())
    target = frames + torch.tensor([3, 4, 0], dtype=torch.uint8)
    metric = PoseError("hopenet")
    metric.update(Footage(0, frames, frames, target=target))
    assert metric.compute().item() == pytest.approx(5)


def test_camera_angles_by_hand() -> None:
    for name, axis in (("yaw", 0), ("pitch", 1), ("roll", 2)):
        turn = np.radians(20)
        c, s = np.cos(turn), np.sin(turn)
        rotations = {
            "yaw": [[c, 0, -s], [0, 1, 0], [s, 0, c]],
            "pitch": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "roll": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }
        camera = np.concatenate([3e-4 * np.array(rotations[name]), np.ones((3, 1))], 1)[None]
        expected = np.eye(3)[axis] * 20
        np.testing.assert_allclose(head_angles(camera)[0], expected, atol=1e-9)


def test_crop_is_a_square_around_the_lower_face_and_black_outside() -> None:
    frame = np.full((100, 100, 3), 200, np.uint8)
    crop = crop_face(frame, np.array([0.0, 0.0, 40.0, 60.0]))  # side int(50 · 1.58) = 79, from −19.5, −2.5
    assert crop.shape == (120, 120, 3)
    assert (crop[:, :25] == 0).all() and (crop[8:, 35:] == 200).all() and (crop[0] == 0).all()


@pytest.fixture(scope="module")
def real_face(shared: Path) -> tuple[torch.Tensor, torch.Tensor]:
    source = open_landmark_source()
    if not isinstance(source, LandmarkSource):
        pytest.skip(str(source))
    frame = next(read_frames(shared / "realclips" / "clips" / "vrt2.mp4"))
    frames = torch.from_numpy(frame.copy())[None]
    return frames, source(frames)


def turned(frames: torch.Tensor, points: torch.Tensor, angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The picture turned clockwise, and its points."""
    height, width = frames.shape[1:3]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -angle, 1)
    picture = cv2.warpAffine(frames[0].numpy(), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    moved = points[0].numpy() @ matrix[:, :2].T + matrix[:, 2]
    return torch.from_numpy(picture)[None], torch.from_numpy(moved.astype(np.float32))[None]


def test_a_turned_real_face(real_face: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, points = real_face
    pose, expression = PoseError(), ExpressionError()
    for metric in (pose, expression):
        if metric.lacking is not None:
            pytest.skip(str(metric.lacking))
    values = []
    for angle in (0.0, 10.0, 20.0):
        picture, moved = turned(frames, points, angle)
        pose.reset()
        footage = Footage(0, picture, frames, generated_landmarks=moved, ground_truth_landmarks=points)
        pose.update(footage)
        values.append(pose.compute().item())
    assert values[0] == 0
    assert values[1] == pytest.approx(10, abs=4) and values[2] == pytest.approx(20, abs=6)
    expression.update(Footage(0, frames, frames, generated_landmarks=points, ground_truth_landmarks=points))
    assert expression.compute().item() == 0


def test_missing_faces_have_no_value(real_face: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, points = real_face
    metric = PoseError()
    if metric.lacking is not None:
        pytest.skip(str(metric.lacking))
    nothing = torch.full_like(points, torch.nan)
    metric.update(Footage(0, frames, frames, generated_landmarks=nothing, ground_truth_landmarks=points))
    assert torch.isnan(metric.compute())
