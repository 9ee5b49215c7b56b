"""Landmark distances: every named definition against its published number, and the metric around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen.metrics import lmd
from talkgen.metrics.detection_misses import DetectionMisses
from talkgen.metrics.footage import Footage

PUBLISHED: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
    ("F-LMD raw px", lmd.face_lmd),
    ("M-LMD raw px", lmd.mouth_lmd),
    ("M-LMD mouth-centred: subtract", lmd.centred_mouth_lmd),
    ("M-LMD mouth-centred, SUM", lmd.atvgnet_lmd),
    ("ATVGnet with dlib integer", lambda a, b: lmd.atvgnet_lmd(a.round(), b.round())),
    ("LipLMD L1", lmd.l1_mouth_lmd),
    ("bangskitchen MLMD", lmd.mouth_lmd_over_68),
    ("AKD", lmd.average_keypoint_distance),
    ("F-LMD / inter-pupil", lmd.interpupil_nme),
    ("F-LMD / inter-ocular", lmd.interocular_nme),
    ("F-LMD face-centred", lmd.centred_face_lmd),
    ("M-LMD after similarity", lmd.pose_free_mouth_lmd),
]


@pytest.mark.parametrize(("name", "function"), PUBLISHED, ids=[name for name, _ in PUBLISHED])
def test_parity(reference: Path, name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    vectors = np.load(reference / "landmark_distances.npz")
    (row,) = [i for i, full in enumerate(vectors["names"]) if full.startswith(name)]
    fake, real = torch.from_numpy(vectors["fake"]), torch.from_numpy(vectors["real"])
    # 1e-7: where a distance is divided by another, the order of mean and division is the only freedom.
    assert function(fake, real).mean().item() == pytest.approx(vectors["values"][row], rel=1e-7)


def points(frames: int = 1) -> Tensor:
    return torch.rand(frames, 68, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 100


def test_hand_computed() -> None:
    truth = points()
    moved = truth.clone()
    moved[:, 48:] += torch.tensor([3.0, 4.0])  # the mouth as a whole, by 5 px
    assert lmd.mouth_lmd(moved, truth).item() == pytest.approx(5)
    assert lmd.face_lmd(moved, truth).item() == pytest.approx(5 * 20 / 68)
    assert lmd.centred_mouth_lmd(moved, truth).item() == pytest.approx(0, abs=1e-12)
    assert lmd.l1_mouth_lmd(moved, truth).item() == pytest.approx(3.5)
    assert lmd.pose_free_mouth_lmd(moved, truth).item() == pytest.approx(5)


def test_pose_free_does_not_see_rotation_scale_and_shift() -> None:
    truth = points(2)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    posed = 1.3 * truth @ turn.T + torch.tensor([12.0, -7.0])
    assert lmd.pose_free_mouth_lmd(posed, truth).max().item() < 1e-9
    assert lmd.centred_mouth_lmd(posed, truth).min().item() > 5


def footage(clip: int, generated: Tensor, truth: Tensor, size: int = 64) -> Footage:
    frames = torch.zeros(len(truth), size, size, 3, dtype=torch.uint8)
    return Footage(
        clip, frames, frames, generated_landmarks=generated.float(), ground_truth_landmarks=truth.float()
    )


def test_metric_scales_to_the_reference_size_and_leaves_misses_out() -> None:
    truth = points(3)
    moved = truth + torch.tensor([0.0, 1.0])
    moved[1] = float("nan")
    metric, misses = lmd.LMD("mouth"), DetectionMisses()
    for one in (metric, misses):
        one.update(footage(0, moved, truth, size=64))
    assert metric.compute().item() == pytest.approx(4.0, rel=1e-5)  # 1 px of 64 is 4 px of 256
    assert misses.compute().item() == pytest.approx(100 / 3)
    assert metric.column == "LMD[mouth,px@256]"
    assert lmd.LMD("face,interocular").column == "LMD[face,interocular]"


def test_normalised_error_does_not_depend_on_the_frame_size() -> None:
    truth, scores = points(1), []
    for size in (64, 128):
        metric = lmd.LMD("face,interocular")
        metric.update(footage(0, (truth + 1) * size / 64, truth * size / 64, size))
        scores.append(metric.compute().item())
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_clip_in_which_nothing_was_found_is_nan_and_not_zero() -> None:
    truth = points(2)
    metric = lmd.LMD()
    metric.update(footage(0, torch.full_like(truth, float("nan")), truth))
    metric.update(footage(1, truth, truth))
    assert np.isnan(metric.per_clip()[0])
    assert metric.compute().item() == 0


def test_unknown_convention_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no LMD convention 'lips'"):
        lmd.LMD("lips")
