"""Fitting: what was drawn is found again, blinks are expression, and one identity serves a clip."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from talkgen.errors import TalkgenError
from talkgen.face3d.coefficients import Coefficients, rotation
from talkgen.face3d.fitting import FittingSettings, crop_camera, fit_landmarks, load_clip_fitter
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS
from talkgen.face3d.rasterizer import Camera
from talkgen.faces.crop import CROPS

HEAD = build_head()
CAMERA = crop_camera(replace(CROPS["face"], size=128))
FRAMES = 60
BLINKS = (15, 40)


def performance() -> tuple[Coefficients, np.ndarray]:
    """Someone who talks, blinks twice and nods, and the amounts of the movements."""
    random = np.random.default_rng(3)
    time = np.arange(FRAMES)
    generators = np.zeros((FRAMES, 64))
    generators[:, GENERATORS.index("jaw_open")] = 0.3 + 0.3 * np.sin(time / 2.5)
    generators[:, GENERATORS.index("pucker")] = 0.25 + 0.25 * np.sin(time / 4 + 1)
    for name in ("blink_left", "blink_right"):
        for blink in BLINKS:
            generators[blink - 2 : blink + 3, GENERATORS.index(name)] = (0.4, 0.9, 1.0, 0.8, 0.3)
    angle = np.stack([0.1 * np.sin(time / 9), 0.25 * np.sin(time / 14), 0.05 * np.cos(time / 11)], 1)
    translation = np.stack([0.1 * np.cos(time / 10), 0.1 * np.sin(time / 12), np.zeros(FRAMES)], 1)
    identity = np.tile(random.normal(size=80) * 0.7, (FRAMES, 1))
    truth = Coefficients(
        identity,
        HEAD.generators_to_coefficients(generators),
        np.zeros((FRAMES, 80)),
        angle,
        np.zeros((FRAMES, 27)),
        translation,
    )
    return truth, generators


def drawn(parts: Coefficients, camera: Camera = CAMERA) -> np.ndarray:
    shape = HEAD.landmarks68(parts.identity, parts.expression)
    place = np.einsum("fij,flj->fli", rotation(parts.angle), shape) + parts.translation[:, None]
    return camera.project(place)


def openings(expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of lips and lids, on the mean head."""
    points = HEAD.landmarks68(np.zeros(80), expression)
    lids = (points[:, [37, 38, 43, 44]] - points[:, [41, 40, 47, 46]])[..., 1].mean(1)
    return np.linalg.norm(points[:, 62] - points[:, 66], axis=1), lids


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


TRUTH, MOVEMENTS = performance()
LANDMARKS = drawn(TRUTH)


@pytest.mark.parametrize(("noise", "least", "size"), [(0.0, 0.98, 0.1), (0.4, 0.9, 0.25)])
def test_speech_blinks_and_pose_are_found_again(noise: float, least: float, size: float) -> None:
    noisy = LANDMARKS + np.random.default_rng(0).normal(size=LANDMARKS.shape) * noise
    fit = fit_landmarks(HEAD, noisy, CAMERA)
    parts = Coefficients.unpack(fit.coefficients)
    assert fit.coefficients.shape == (FRAMES, 257) and fit.coefficients.dtype == np.float32
    for found, true in zip(openings(parts.expression), openings(TRUTH.expression), strict=True):
        assert correlation(found, true) > least
        assert found.std() / true.std() == pytest.approx(1.0, abs=size)
    _, lids = openings(parts.expression)
    shut = lids < 0.5 * np.median(lids)
    assert shut[list(BLINKS)].all() and shut.sum() <= 8  # five frames each at most, the outer ones half open
    assert np.abs(parts.angle - TRUTH.angle).max() < 0.12
    for axis in range(3):
        assert correlation(parts.angle[:, axis], TRUTH.angle[:, axis]) > least
    assert np.nanmean(fit.residual) < 0.4 + 1.5 * noise
    assert np.abs(drawn(parts) - LANDMARKS).mean() < 0.3 + 0.5 * noise


def test_the_identity_is_one_and_is_somewhat_like_the_true_one() -> None:
    parts = Coefficients.unpack(fit_landmarks(HEAD, LANDMARKS, CAMERA).coefficients)
    assert np.ptp(parts.identity, axis=0).max() == 0
    still = np.zeros(64)
    found, true, mean = (
        HEAD.landmarks68(identity, still) for identity in (parts.identity[0], TRUTH.identity[0], np.zeros(80))
    )
    assert np.linalg.norm(found - true, axis=1).mean() < 0.6 * np.linalg.norm(mean - true, axis=1).mean()
    assert not parts.texture.any() and not parts.gamma.any()


def test_frames_without_a_face_follow_their_neighbours_and_outliers_are_ignored() -> None:
    broken = LANDMARKS.copy()
    broken[20:24] = np.nan
    broken[30, 50] += 40  # one point is far off
    broken[5, 17:22] = np.nan
    fit = fit_landmarks(HEAD, broken, CAMERA)
    assert np.isnan(fit.residual[20:24]).all() and np.isfinite(np.delete(fit.residual, range(20, 24))).all()
    assert np.isfinite(fit.coefficients).all()
    parts = Coefficients.unpack(fit.coefficients)
    clean = Coefficients.unpack(fit_landmarks(HEAD, LANDMARKS, CAMERA).coefficients)
    assert np.abs(parts.angle[20:24] - clean.angle[20:24]).max() < 0.06
    assert np.abs(openings(parts.expression)[0][30] - openings(clean.expression)[0][30]) < 0.05


def test_smoothing_takes_jitter_away() -> None:
    noisy = LANDMARKS + np.random.default_rng(1).normal(size=LANDMARKS.shape) * 0.5
    jerks = []
    for change in (0.3, 100.0):
        settings = FittingSettings(
            expression_change=change, angle_change=0.04 * change, translation_change=change
        )
        parts = Coefficients.unpack(fit_landmarks(HEAD, noisy, CAMERA, settings).coefficients)
        jerks.append(np.abs(np.diff(parts.angle, 2, axis=0)).mean())
    assert jerks[0] < 0.7 * jerks[1]


def test_progress_counts_to_its_end() -> None:
    seen: list[tuple[int, int]] = []
    fit_landmarks(HEAD, LANDMARKS[:5], CAMERA, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="no frame has landmarks"):
        fit_landmarks(HEAD, np.full((4, 68, 2), np.nan), CAMERA)
    with pytest.raises(ValueError, match="68, 2"):
        fit_landmarks(HEAD, np.zeros((4, 5, 2)), CAMERA)
    with pytest.raises(ValueError, match="above 0"):
        FittingSettings(noise=0.0)
    larger = replace(HEAD, identity_basis=np.concatenate([HEAD.identity_basis] * 2))
    with pytest.raises(ValueError, match="resize"):
        fit_landmarks(larger, LANDMARKS, CAMERA)


def test_a_fitter_travels_light_and_keeps_to_its_model() -> None:
    fitter = load_clip_fitter()
    assert len(pickle.dumps(fitter)) < 500
    crop = replace(CROPS["face"], size=128)
    again = pickle.loads(pickle.dumps(fitter))
    np.testing.assert_array_equal(again(LANDMARKS[:3], crop), fitter(LANDMARKS[:3], crop))
    with pytest.raises(TalkgenError, match="no such file"):
        load_clip_fitter("nowhere.mat")
    with pytest.raises(TalkgenError, match="replaced"):
        replace(fitter, sha256="0" * 64)(LANDMARKS[:3], crop)
