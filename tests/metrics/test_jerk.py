from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen.metrics.footage import Footage
from talkgen.metrics.jerk import JerkRatio, jerk


@pytest.mark.parametrize("name", ["real", "fake"])
def test_published_jerk(reference: Path, name: str) -> None:
    points = torch.from_numpy(np.load(reference / "landmark_distances.npz")[name])
    published = np.load(reference / "blinks.npz")[f"jerk_accel_step_{name}"][0]
    assert jerk(points).item() == pytest.approx(published, rel=1e-12)


def ratio(generated: Tensor, truth: Tensor) -> float:
    metric = JerkRatio()
    for piece in (slice(0, 7), slice(7, None)):
        pictures = torch.zeros(len(truth[piece]), 4, 4, 3, dtype=torch.uint8)
        points = {"generated_landmarks": generated[piece], "ground_truth_landmarks": truth[piece]}
        metric.update(Footage(0, pictures, pictures, **points))  # type: ignore[arg-type]
    return metric.compute().item()


def test_by_hand_and_over_the_border_of_pieces() -> None:
    t = torch.arange(20.0).double()
    cubic = torch.stack([t**3, 0 * t], -1)[:, None].expand(20, 68, 2)  # third difference 6
    assert jerk(cubic, fps=1).item() == pytest.approx(6)
    assert ratio(2 * cubic, cubic) == pytest.approx(2)
    trembling = cubic.clone()
    trembling[7, :, 0] += 1  # the first frame of the second piece: +1, −3, +3, −1 in four of 17 differences
    expected = (13 * 6 + 7 + 3 + 9 + 5) / 17 / 6
    assert ratio(trembling, cubic) == pytest.approx(expected)


def test_missed_frames_are_left_out_and_a_still_truth_has_no_ratio() -> None:
    t = torch.arange(20.0).double()
    cubic = torch.stack([t**3, 0 * t], -1)[:, None].expand(20, 68, 2).clone()
    missed = cubic.clone()
    missed[4] = torch.nan
    assert ratio(missed, cubic) == pytest.approx(1)
    assert np.isnan(ratio(cubic, torch.zeros_like(cubic)))
