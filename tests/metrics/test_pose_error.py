from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen import weights
from talkgen.metrics import pose_error
from talkgen.metrics.footage import Footage
from talkgen.metrics.pose_error import PoseError, angle_distance
from talkgen.models.experts.hopenet import degrees, load_hopenet, network_input


def test_published_degrees_and_error(reference: Path) -> None:
    numbers = np.load(reference / "blinks.npz")
    angles = degrees(torch.from_numpy(numbers["hopenet_logits"]))
    np.testing.assert_allclose(angles, numbers["hopenet_deg"], atol=1e-4)
    error = angle_distance(angles[:3], angles[3:]).mean().item()
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
    missing = PoseError()
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    missing.update(Footage(0, frames, frames))
    assert missing.per_clip() == {} and "hopenet" in str(missing.lacking)
    (tmp_path / weights.entry("hopenet").file).touch()
    monkeypatch.setattr(pose_error, "head_angles", lambda: lambda x: x[:, 0, 0].double())
    target = frames + torch.tensor([3, 4, 0], dtype=torch.uint8)
    metric = PoseError()
    metric.update(Footage(0, frames, frames, target=target))
    assert metric.compute().item() == pytest.approx(5)
