"""Pairs of frames with the motion around each."""

from __future__ import annotations

import numpy as np
import pytest

from talkgen.data.array_cache import ArrayCache
from talkgen.data.motion_pairs import MotionPairData, MotionPairs
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings
from talkgen.errors import FileError


def numbered(clip) -> np.ndarray:
    """Coefficients that say which frame they are of."""
    return np.arange(clip.frames, dtype=np.float32)[:, None] * np.ones(257, np.float32)


@pytest.fixture(scope="module")
def data(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coefficients")
    ArrayCache.build(folder, Store.open(tiny_store), "numbered", numbered, "", progress=False)
    window = WindowSettings(size=24, stride=5, reference_gap=3)
    return MotionPairData(str(tiny_store), str(folder), radius=4, window=window, batch_size=4)


def test_a_pair_and_the_motion_around_both_frames(data):
    samples = data.dataset("train")
    assert len(samples) == 4 * 8  # clips of 40 frames
    seen = set()
    for index in range(len(samples)):
        sample = samples[1, index]
        first, second = sample["frames"]
        assert abs(first - second) > 3
        assert sample["video"].shape == (2, 24, 24, 3) and sample["landmarks"].shape == (2, 68, 2)
        expected = np.clip(np.add.outer(sample["frames"], np.arange(-4, 5)), 0, 39)
        assert np.array_equal(sample["coefficients"][..., 0], expected)
        assert sample["coefficients"].shape == (2, 9, 257)
        seen.add(int(first))
    assert len(seen) > 15  # frames from all over the clips


def test_pictures_and_landmarks_are_those_of_the_frames(data):
    sample = data.dataset("val")[0, 1]
    clip = data.clips("val")[0]
    for place, frame in enumerate(sample["frames"]):
        stored = data.store.frames(clip, frame, frame + 1)[0]
        assert abs(sample["video"][place].mean() - stored.mean()) < 2
        points = data.store.array(clip, "landmarks", frame, frame + 1)[0]
        assert sample["landmarks"][place] == pytest.approx((points + 0.5) / 2 - 0.5)
    again = data.dataset("val")[0, 1]
    assert np.array_equal(again["frames"], sample["frames"])


def test_batches_come_as_floats(data):
    batch = next(iter(data.train_dataloader()))
    assert batch["video"].shape == (4, 2, 3, 24, 24) and batch["video"].abs().max() <= 1
    assert batch["coefficients"].shape == (4, 2, 9, 257)


def test_statistics_are_of_training_clips(data):
    assert data.sampled_coefficients().shape == (160, 257)
    assert data.sampled_coefficients(clips=2).shape == (80, 257)


def test_clips_are_fitted_where_there_are_no_coefficients(tiny_store, tmp_path):
    class Fitter:
        sha256 = "0" * 64

        def __call__(self, landmarks, crop):
            assert crop.size == 48
            return np.repeat(landmarks[:, :1, 0], 257, 1)

    def open_data(fitter):
        return MotionPairData(str(tiny_store), str(tmp_path / "made"), fitter, radius=4)

    with pytest.raises(FileError, match="holds no complete arrays"):
        open_data(None).dataset("train")
    open_data(Fitter).prepare_data()
    data = open_data(None)
    clip = data.clips("train")[0]
    points = data.store.array(clip, "landmarks")
    assert data.coefficients.array(clip.id)[:, 7] == pytest.approx(points[:, 0, 0])
    assert isinstance(data.dataset("train"), MotionPairs)
