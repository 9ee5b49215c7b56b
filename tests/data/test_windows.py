from __future__ import annotations

import numpy as np
import pytest
import torch

from talkgen.data.windows import (
    MIRRORED_LANDMARKS,
    WindowSettings,
    as_uint8,
    mirror_points,
    mirror_warp,
    plan_window,
    resize_points,
    resize_warp,
    to_model_range,
)


def apply(warp: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ warp[:, :2].T + warp[:, 2]


@pytest.mark.parametrize(
    "settings",
    [
        WindowSettings(),
        WindowSettings(frames=1, stride=3),
        WindowSettings(reference_frames=3, reference_gap=2, shifted_mels=4),
        WindowSettings(reference_frames=5, reference_run=True, shifted_mels=1, min_shift=7, max_shift=9),
    ],
)
@pytest.mark.parametrize("extra", [0, 1, 6, 40])
def test_plans_keep_their_promises(settings: WindowSettings, extra: int) -> None:
    frames = settings.shortest_clip + extra
    starts = set()
    for slot in range(settings.windows_in(frames)):
        for seed in range(30):
            plan = plan_window(np.random.default_rng(seed), settings, frames, slot, jitter=True)
            starts.add(plan.start)
            assert 0 <= plan.start <= frames - settings.frames
            assert len(plan.references) == settings.reference_frames
            window = range(
                plan.start - settings.reference_gap, plan.start + settings.frames + settings.reference_gap
            )
            assert all(0 <= r < frames and r not in window for r in plan.references)
            if settings.reference_run:
                assert np.all(np.diff(plan.references) == 1)
            assert len(plan.shifts) == settings.shifted_mels
            for shift in plan.shifts:
                assert settings.min_shift <= abs(shift) <= (settings.max_shift or frames)
                assert 0 <= plan.start + shift <= frames - settings.frames
    assert starts == set(range(frames - settings.frames + 1))  # jitter reaches every window of the clip


def test_slots_without_jitter_tile_the_clip() -> None:
    settings = WindowSettings(frames=5)
    rng = np.random.default_rng(0)
    starts = [plan_window(rng, settings, 29, slot, False).start for slot in range(settings.windows_in(29))]
    assert starts == [0, 5, 10, 15, 20]
    assert settings.windows_in(4) == 0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="frames and stride"):
        WindowSettings(frames=0)
    with pytest.raises(ValueError, match="min_shift"):
        WindowSettings(min_shift=0)
    with pytest.raises(ValueError, match="truth_x"):
        WindowSettings(mirror=0.5, arrays=("truth_x",))


def test_resizing_points_and_warps_agree() -> None:
    rng = np.random.default_rng(1)
    warp = rng.normal(size=(3, 2, 3)).astype(np.float32)
    points = rng.uniform(0, 64, (10, 2))
    # the centres of the corner pixels move by the half pixel that the border does not
    np.testing.assert_allclose(resize_points(np.array([[0.0, 63.0]]), 0.5), [[-0.25, 31.25]])
    for single, resized in zip(warp, resize_warp(warp, 0.4), strict=True):
        np.testing.assert_allclose(
            apply(resized, resize_points(points, 0.4)), apply(single, points), atol=1e-4
        )


def test_mirroring_keeps_the_face_in_place() -> None:
    rng = np.random.default_rng(2)
    size = 96
    warp = rng.normal(size=(2, 2, 3)).astype(np.float32)
    point = rng.uniform(0, 90, (4, 2))
    seen = np.stack([size - 1 - point[:, 0], point[:, 1]], axis=1)
    for single, mirrored in zip(warp, mirror_warp(warp, size), strict=True):
        straight = apply(single, point)
        np.testing.assert_allclose(
            apply(mirrored, seen), np.stack([111 - straight[:, 0], straight[:, 1]], 1), rtol=1e-4, atol=1e-3
        )
        assert np.sign(np.linalg.det(mirrored[:, :2])) == np.sign(np.linalg.det(single[:, :2]))


def test_mirrored_landmarks_are_an_involution_that_keeps_left_left() -> None:
    order = np.array(MIRRORED_LANDMARKS)
    assert sorted(order) == list(range(68))
    np.testing.assert_array_equal(order[order], np.arange(68))
    face = np.random.default_rng(3).uniform(0, 50, (1, 68, 2)).astype(np.float32)
    face[0, 36, 0], face[0, 45, 0] = 10, 40  # outer corners of the eyes
    face[0, 48, 0], face[0, 54, 0] = 15, 35  # corners of the mouth
    mirrored = mirror_points(face, 51)
    assert mirrored[0, 36, 0] == 10 and mirrored[0, 45, 0] == 40
    assert mirrored[0, 48, 0] == 15 and mirrored[0, 54, 0] == 35
    np.testing.assert_allclose(mirror_points(mirrored, 51), face, atol=1e-5)


def test_float_video_becomes_the_bytes_that_a_file_would_hold() -> None:
    video = torch.tensor([-1.0, 0.0, 1.0, 1.2]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert as_uint8(video)[0, :, :, 0].tolist() == [[0, 128], [255, 255]]


def test_model_range() -> None:
    batch = to_model_range(
        {"video": torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 1, 1, 1, 3), "frame": 3}
    )
    assert batch["video"].shape == (1, 1, 3, 1, 1)
    torch.testing.assert_close(batch["video"].flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    assert batch["frame"] == 3
