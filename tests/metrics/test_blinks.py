from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen.metrics.blinks import (
    BlinkRate,
    BlinkRateError,
    EyesShut,
    _ratio,
    count_dips,
    count_runs_below,
    eye_aspect_ratio,
)
from talkgen.metrics.footage import Footage


def test_published_ratios(reference: Path) -> None:
    numbers = np.load(reference / "blinks.npz")
    points = torch.from_numpy(np.load(reference / "landmark_distances.npz")["real"])
    both = torch.stack([_ratio(points[:, 36:42]), _ratio(points[:, 42:48])], 1)
    np.testing.assert_allclose(both, numbers["ear_real"], atol=1e-12)
    np.testing.assert_allclose(eye_aspect_ratio(points), numbers["ear_real"].mean(1), atol=1e-12)


def test_published_counts(reference: Path) -> None:
    numbers = np.load(reference / "blinks.npz")
    counts = numbers["blink_thr_minframes_count"]
    assert len(counts) == 15
    for threshold, least, count in counts:
        assert count_runs_below(numbers["ear_series"], threshold, int(least)) == count
    assert count_dips(numbers["ear_series"]) == 5  # what the series was made with


def test_runs_at_the_ends_and_missed_frames() -> None:
    nan = float("nan")
    assert count_runs_below(np.array([0.1, 0.1, 0.3, 0.1, 0.1])) == 2
    assert count_runs_below(np.array([0.1, nan, 0.1, 0.1, 0.3])) == 1
    assert count_runs_below(np.array([0.1])) == 0
    assert count_dips(np.array([0.3, 0.3, nan, 0.1, nan, 0.3, 0.3])) == 1
    assert count_dips(np.array([nan, nan])) == 0


def eyes(ratio: np.ndarray) -> Tensor:
    """Landmarks whose eyes have the given ratio: width 2, height 2 · ratio."""
    points = torch.rand(len(ratio), 68, 2, generator=torch.Generator().manual_seed(0)).double()
    for first in (36, 42):
        for place, x, sign in ((0, 0, 0), (1, 0.5, -1), (2, 1.5, -1), (3, 2, 0), (4, 1.5, 1), (5, 0.5, 1)):
            points[:, first + place, 0] = x + first
            points[:, first + place, 1] = sign * torch.from_numpy(ratio)
    return points


def series(blinks: list[int], open_ratio: float = 0.32, frames: int = 100) -> np.ndarray:
    ratio = np.full(frames, open_ratio)
    for at in blinks:
        ratio[at : at + 4] = open_ratio * 0.3
    return ratio


def shown(generated: np.ndarray, truth: np.ndarray, metric: BlinkRate | EyesShut) -> float:
    picture = torch.zeros(len(generated), 8, 8, 3, dtype=torch.uint8)
    for start, stop in ((0, 30), (30, len(generated))):
        points = eyes(generated)[start:stop], eyes(truth)[start:stop]
        pieces = picture[start:stop]
        metric.update(
            Footage(0, pieces, pieces, generated_landmarks=points[0], ground_truth_landmarks=points[1])
        )
    return metric.compute().item()


def test_rates_by_hand() -> None:
    truth, dropped = series([10, 28, 70]), series([10])
    assert shown(dropped, truth, BlinkRate("fixed")) == pytest.approx(0.25)  # one in four seconds
    assert shown(dropped, truth, BlinkRateError("peaks")) == pytest.approx(0.5)
    assert shown(truth, truth, BlinkRateError("fixed")) == 0
    assert shown(truth, truth, EyesShut()) == pytest.approx(12.0)


def test_eyes_that_are_narrow_by_nature() -> None:
    narrow = series([10, 28, 70], open_ratio=0.19)
    assert shown(narrow, narrow, BlinkRate("fixed")) == pytest.approx(0.25)  # one run without an end
    assert shown(narrow, narrow, BlinkRate("peaks")) == pytest.approx(0.75)


def test_a_face_that_was_never_found_has_no_rate() -> None:
    nothing = np.full(40, np.nan)
    assert np.isnan(shown(nothing, series([], frames=40), BlinkRate()))
    assert np.isnan(shown(nothing, series([], frames=40), EyesShut()))


def test_columns() -> None:
    assert [BlinkRate("fixed").column, BlinkRateError().column] == [
        "blinks/s[fixed]",
        "blink rate error[peaks]",
    ]
