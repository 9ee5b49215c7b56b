"""Lips in silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkgen.metrics.footage import Footage
from talkgen.metrics.lip_leak import LipLeak, frame_loudness


def footage(openings: np.ndarray, loud: np.ndarray, start: int = 0, stop: int | None = None) -> Footage:
    """Eyes 10 pixels apart, lips so many hundredths of that apart; a tone of its own loudness a frame."""
    part = slice(start, stop)
    openings, loud = openings[part], loud[part]
    points = torch.zeros(len(openings), 68, 2)
    points[:, 42:48, 0] = 10
    points[:, [65, 66, 67], 1] = torch.from_numpy(openings / 10).float()[:, None]
    tone = np.sin(np.arange(640) * 0.3) * np.sqrt(2)
    sound = torch.from_numpy(np.concatenate([level * tone for level in loud])).float()
    frames = torch.zeros(len(openings), 4, 4, 3, dtype=torch.uint8)
    return Footage(0, frames, frames, generated_landmarks=points, ground_truth_landmarks=points, sound=sound)


def test_loudness_of_each_frame() -> None:
    loud = np.array([0.1, 0.0, 0.3])
    sound = footage(np.zeros(3), loud).sound
    assert sound is not None
    assert frame_loudness(sound, 3).tolist() == pytest.approx(loud.tolist(), abs=2e-3)


def test_only_silent_frames_count() -> None:
    loud = np.array([0.2] * 10 + [0.001] * 6)
    openings = np.array([0, 30] * 5 + [1, 2, 2, 2, 4, 2], float)
    metric = LipLeak()
    for span in ((0, 7), (7, 16)):
        metric.update(footage(openings, loud, *span))
    assert metric.per_clip()[0] == pytest.approx((1 + 2) / 6, abs=1e-3)  # from the median of 2
    still = LipLeak()
    still.update(footage(np.where(loud > 0.1, openings, 5.0), loud))
    assert still.per_clip()[0] == pytest.approx(0, abs=1e-4)


def test_no_pause_no_number_and_a_silent_clip_is_silent_throughout() -> None:
    speaking, mute = LipLeak(), LipLeak()
    speaking.update(footage(np.arange(12.0), np.full(12, 0.2)))
    assert np.isnan(speaking.per_clip()[0])
    mute.update(footage(np.array([0.0, 4.0] * 6), np.zeros(12)))
    assert mute.per_clip()[0] == pytest.approx(2, abs=1e-3)
