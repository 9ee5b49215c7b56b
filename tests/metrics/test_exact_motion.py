"""Errors of generated motion against the exact one: hand-made motions of the built-in head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen.face3d.coefficients import EXPRESSION, SIZE
from talkgen.metrics.coefficient_error import CoefficientError
from talkgen.metrics.exact_landmark_error import ExactLandmarkError
from talkgen.metrics.exact_motion import ExactMotion, head_of, lid_opening, lip_opening, unposed_landmarks
from talkgen.metrics.footage import Footage
from talkgen.metrics.phoneme_error import PhonemeError
from talkgen.metrics.region_leak import RegionLeak, without

FRAMES = 200


def track(lips: np.ndarray, lids: np.ndarray) -> Tensor:
    """Coefficients (frames, 257) of a head whose jaw and lids move so."""
    head = head_of("demo")
    generators = np.zeros((len(lips), len(head.generator_names)))
    generators[:, head.lip_generators[0]] = lips
    generators[:, head.eye_generators[0]] = lids
    coefficients = np.zeros((len(lips), SIZE), np.float32)
    coefficients[:, EXPRESSION] = head.generators_to_coefficients(generators)
    return torch.from_numpy(coefficients)


def footage(generated: Tensor, truth: Tensor, sounds: Tensor | None = None) -> Footage:
    pictures = torch.zeros(len(truth), 8, 8, 3, dtype=torch.uint8)
    return Footage(0, pictures, pictures, motion=ExactMotion("demo", generated, truth, sounds))


@pytest.fixture(scope="module")
def series() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    lips, lids = rng.uniform(0, 1, (2, FRAMES))
    return lips, lids


def test_a_copy_has_no_error(series: tuple[np.ndarray, np.ndarray]) -> None:
    truth = track(*series)
    sounds = torch.arange(FRAMES) % 5
    for metric in (CoefficientError(), ExactLandmarkError("face"), PhonemeError()):
        metric.update(footage(truth, truth, sounds))
        assert metric.compute().item() == 0
    for leak in ("lids,of lips", "lips,of lids"):
        metric = RegionLeak(leak)  # type: ignore[arg-type]
        metric.update(footage(truth, truth))
        assert metric.compute().item() == pytest.approx(0, abs=1e-6)


def test_coefficients_are_counted_in_their_deviations() -> None:
    truth = torch.zeros(3, SIZE)
    deviation = torch.from_numpy(head_of("demo").expression_deviation).float()
    generated = truth.clone()
    generated[:, EXPRESSION] = 2 * deviation
    metric = CoefficientError()
    metric.update(footage(generated, truth))
    assert metric.compute().item() == pytest.approx(2, rel=1e-6)


def test_a_mouth_that_stays_shut_is_an_error_of_the_lips_alone(series: tuple[np.ndarray, np.ndarray]) -> None:
    lips, lids = series
    truth, shut = track(lips, lids), track(0 * lips, lids)
    found = {}
    for part in ("lip", "eye", "brow"):
        metric = ExactLandmarkError(part)  # type: ignore[arg-type]
        metric.update(footage(shut, truth))
        found[part] = metric.compute().item()
    assert found["lip"] > 20 * max(found["eye"], found["brow"])
    still = unposed_landmarks("demo", track(0 * lips, 0 * lids))
    assert (still[0, 36] - still[0, 45]).norm().item() == pytest.approx(100)


def test_a_rare_sound_counts_as_much_as_a_long_one() -> None:
    lips = np.zeros(11)
    wrong = lips.copy()
    wrong[10] = 1  # the only frame of sound 7
    sounds = torch.tensor([3] * 10 + [7])
    metric, plain = PhonemeError(), ExactLandmarkError("lip")
    for one in (metric, plain):
        one.update(footage(track(wrong, lips), track(lips, lips), sounds))
    of_sound = metric.per_sound()
    assert of_sound[3] == 0 < of_sound[7]
    assert metric.compute().item() == pytest.approx(of_sound[7] / 2)
    assert plain.compute().item() == pytest.approx(of_sound[7] / 11)
    metric.reset()
    metric.update(footage(track(wrong, lips), track(lips, lips)))  # nobody knows what was said
    assert metric.per_clip() == {}


def test_lids_that_follow_the_lips_leak(series: tuple[np.ndarray, np.ndarray]) -> None:
    lips, lids = series
    truth = track(lips, lids)
    other = np.random.default_rng(1).uniform(0, 1, FRAMES)
    found = {}
    for name, made in (("free", other), ("leaking", 0.5 * other + 0.5 * lips)):
        metric = RegionLeak("lids,of lips")
        metric.update(footage(track(lips, made), truth))
        found[name] = metric.compute().item()
    assert found["free"] < 25 < 60 < found["leaking"]
    with pytest.raises(ValueError, match="leak"):
        RegionLeak("brows")  # type: ignore[arg-type]


def test_openings_follow_what_moves_them(series: tuple[np.ndarray, np.ndarray]) -> None:
    lips, lids = series
    points = unposed_landmarks("demo", track(lips, lids))
    for opening, series_of in ((lip_opening(points), lips), (lid_opening(points), lids)):
        assert abs(np.corrcoef(opening.numpy(), series_of)[0, 1]) > 0.9


def test_what_explains_a_series_is_taken_off() -> None:
    cause = torch.arange(5.0)
    assert without(3 * cause + 7, cause).abs().max() < 1e-6
    assert without(cause, torch.ones(5)).tolist() == [-2, -1, 0, 1, 2]


def test_tracks_must_fit() -> None:
    with pytest.raises(ValueError, match="length"):
        ExactMotion("demo", torch.zeros(3, SIZE), torch.zeros(4, SIZE))
