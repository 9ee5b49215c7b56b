"""PSNR against hand-computed numbers and published implementations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen.metrics.footage import Footage
from talkgen.metrics.psnr import PSNR, psnr


def flat(value: int, frames: int = 1, size: int = 16) -> Tensor:
    return torch.full((frames, size, size, 3), value, dtype=torch.uint8)


def test_hand_computed() -> None:
    assert psnr(flat(110), flat(100)).item() == pytest.approx(20 * math.log10(255 / 10))
    assert psnr(flat(0), flat(255)).item() == pytest.approx(0.0)  # bytes would wrap around to 1 and 48 dB
    assert psnr(flat(7), flat(7)).item() == 100.0


def test_mean_of_decibels_then_mean_of_clips() -> None:
    metric = PSNR()
    metric.update(Footage(0, flat(101, 1), flat(100, 1)))
    metric.update(Footage(1, flat(110, 3), flat(100, 3)))
    metric.update(Footage(0, flat(110, 1), flat(100, 1)))  # clip 0 goes on, later
    one, ten = 20 * math.log10(255), 20 * math.log10(25.5)
    assert metric.per_clip() == pytest.approx({0: (one + ten) / 2, 1: ten})
    assert metric.compute().item() == pytest.approx(((one + ten) / 2 + ten) / 2)


def test_mouth_region_sees_only_the_mouth() -> None:
    generated, ground_truth = flat(100, 2), flat(100, 2)
    generated[:, 8:] = 110
    points = torch.tensor([[6.0, 2.0], [10.0, 5.0]]).repeat(2, 10, 1)
    metric = PSNR(region="mouth")
    metric.update(Footage(0, generated, ground_truth, mouth_points=points))
    assert metric.per_clip() == {0: 100.0}
    metric.update(Footage(1, generated, ground_truth, mouth_points=points + torch.tensor([0.0, 9.0])))
    assert metric.per_clip()[1] == pytest.approx(20 * math.log10(25.5))
    assert metric.column == "PSNR[rgb,mouth]"


def test_footage_without_mouth_points_gives_no_value() -> None:
    metric = PSNR(region="mouth")
    metric.update(Footage(0, flat(1), flat(1)))
    assert metric.per_clip() == {}
    assert torch.isnan(metric.compute())


@pytest.mark.parametrize("damage", ["noise8", "blur1.5", "shift1px"])
def test_parity(reference: Path, damage: str) -> None:
    vectors = np.load(reference / "ssim_psnr_96.npz")
    expected = dict(zip(vectors["names"], vectors[f"vals_{damage}_96"], strict=True))
    pair = [torch.from_numpy(vectors[f"{name}_96"])[None] for name in (damage, "ref")]
    assert psnr(*pair).item() == pytest.approx(expected["PSNR RGB u8"], abs=1e-8)
    assert psnr(*pair).item() == pytest.approx(expected["PSNR skimage"], abs=1e-8)
    assert psnr(*pair, channels="y").item() == pytest.approx(expected["PSNR Y(BT.601 studio)"], abs=1e-4)


def test_background_is_compared_with_what_the_model_was_given() -> None:
    """A swap may change the face; what surrounds it should stay as in the target, not as in the truth."""
    target, truth, generated = flat(100, 1, 32), flat(50, 1, 32), flat(100, 1, 32)
    points = torch.tensor([[12.0, 14.0], [20.0, 22.0]]).repeat(1, 34, 1)  # the face's box: 11 … 21 × 9 … 23
    generated[:, 9:24, 11:22] = 200
    metric = PSNR(region="background")
    metric.update(Footage(0, generated, truth, target=target, corpus_landmarks=points, truth_known=False))
    assert metric.compute().item() == 100
    generated[:, 8] = 110
    again = PSNR(region="background")
    again.update(Footage(0, generated, truth, target=target, corpus_landmarks=points))
    inside = 32 * 32 - 15 * 11
    assert again.compute().item() == pytest.approx(10 * math.log10(255**2 / (100 * 32 / inside)))


def test_an_unknown_truth_scores_nothing() -> None:
    metric = PSNR()
    metric.update(Footage(0, flat(100), flat(100), truth_known=False))
    assert metric.per_clip() == {} and math.isnan(metric.compute().item())
