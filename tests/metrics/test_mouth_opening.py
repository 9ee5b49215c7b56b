from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from talkgen.metrics.footage import Footage
from talkgen.metrics.mouth_opening import MouthOpeningAmplitude, MouthOpeningCorrelation, opening, pearson

FRAMES = 24


def face(gaps: np.ndarray, size: float = 1.0) -> torch.Tensor:
    """Landmarks whose inner lips are ``gaps`` apart, in distances between the eyes."""
    points = np.zeros((len(gaps), 68, 2), np.float32)
    points[:, 36:42, 0], points[:, 42:48, 0] = -5, 5  # the eyes' centres are 10 apart
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        points[:, lower, 1] = 10 * gaps
        points[:, upper, 1] = 0
    return torch.from_numpy(points * size)


def footage(clip: int, made: torch.Tensor, true: torch.Tensor, **extra: object) -> Footage:
    frames = torch.zeros(len(made), 8, 8, 3, dtype=torch.uint8)
    return Footage(
        clip,
        frames,
        frames,
        generated_landmarks=made,
        ground_truth_landmarks=true,
        **extra,  # type: ignore[arg-type]
    )


TRUE = 0.2 + 0.1 * np.sin(np.arange(FRAMES))
OTHER = 0.2 + 0.1 * np.sin(0.37 * np.arange(FRAMES) + 2)


def test_opening_does_not_depend_on_the_size_of_the_face() -> None:
    assert opening(face(TRUE)).numpy() == pytest.approx(TRUE, abs=1e-6)
    assert opening(face(TRUE, 3.0)).numpy() == pytest.approx(TRUE, abs=1e-6)


def test_correlation_and_amplitude_by_hand() -> None:
    r, amplitude = MouthOpeningCorrelation(), MouthOpeningAmplitude()
    for metric in (r, amplitude):
        metric.update(footage(0, face(0.05 + 0.5 * TRUE), face(TRUE)))  # half as far, but at the right time
        metric.update(footage(1, face(OTHER), face(TRUE)))
    expected = np.corrcoef(OTHER, TRUE)[0, 1]
    assert r.per_clip() == pytest.approx({0: 1.0, 1: expected}, abs=1e-5)
    assert float(r.compute()) == pytest.approx((1 + expected) / 2, abs=1e-5)
    assert amplitude.per_clip()[0] == pytest.approx(0.5, abs=1e-5)


def test_pieces_of_a_clip_are_one_series() -> None:
    whole, pieces = MouthOpeningCorrelation(), MouthOpeningCorrelation()
    whole.update(footage(0, face(OTHER), face(TRUE)))
    for part in (slice(0, 5), slice(5, FRAMES)):
        pieces.update(footage(0, face(OTHER)[part], face(TRUE)[part]))
    assert pieces.per_clip() == pytest.approx(whole.per_clip())


def test_missed_faces_are_left_out_and_what_stands_still_follows_nothing() -> None:
    made = face(TRUE)
    made[3] = torch.nan
    r = MouthOpeningCorrelation()
    r.update(footage(0, made, face(TRUE)))
    r.update(footage(1, face(np.full(FRAMES, 0.2)), face(TRUE)))
    r.update(footage(2, face(TRUE), face(np.full(FRAMES, 0.2))))  # a target that is silent says nothing
    values = r.per_clip()
    assert values[0] == pytest.approx(1.0, abs=1e-5) and values[1] == 0 and math.isnan(values[2])
    assert float(r.compute()) == pytest.approx(0.5, abs=1e-5)
    assert math.isnan(pearson(torch.rand(4), torch.rand(4)))


def test_the_target_counts_and_not_a_swapped_truth() -> None:
    """A swapped face has other lips; what its mouth should do is what the target's did."""
    r = MouthOpeningCorrelation()
    r.update(footage(0, face(TRUE), face(OTHER), target_landmarks=face(TRUE)))
    assert r.per_clip()[0] == pytest.approx(1.0, abs=1e-5)
    corpus = MouthOpeningCorrelation("corpus")
    corpus.update(footage(0, face(TRUE), face(OTHER), corpus_landmarks=face(-TRUE + 1)))
    assert corpus.per_clip()[0] == pytest.approx(-1.0, abs=1e-5)
    assert (r.column, corpus.column) == ("mouth opening r", "mouth opening r[stored landmarks]")
    without = MouthOpeningCorrelation("corpus")
    without.update(footage(0, face(TRUE), face(TRUE)))
    assert without.per_clip() == {}
    with pytest.raises(ValueError, match="detected or corpus"):
        MouthOpeningCorrelation("true")  # type: ignore[arg-type]
