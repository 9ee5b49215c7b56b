"""Frames and audio steps: numbers worked out by hand, and properties that hold for every frame rate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from talkgen.audio import alignment as al

RATES = [23.976, 24, 25, 29.97, 30000 / 1001, Fraction(30000, 1001), 30, 50, 59.94]


@pytest.mark.parametrize(
    ("frame", "fps", "frames", "window"),
    [
        (0, 25, 5, (0, 16)),
        (1, 25, 5, (3, 19)),  # 3.2
        (4, 25, 5, (12, 28)),  # 12.8
        (5, 25, 5, (16, 32)),
        (7, 25, 5, (22, 38)),  # 22.4
        (1000, 25, 5, (3200, 3216)),
        (7, 25, 1, (22, 25)),  # 3.2 columns last a frame
        (3, 30, 5, (8, 21)),  # 8 ; 13.33 columns
        (1, 50, 5, (1, 9)),  # 1.6 ; 8 columns
        (10, 29.97, 5, (26, 39)),  # 26.69 ; 13.35
        (1, 23.976, 5, (3, 20)),  # 3.337 ; 16.68
        (375, 30000 / 1001, 5, (1001, 1014)),  # exactly 1001: a float product gives 1000.99…
    ],
)
def test_mel_window_by_hand(frame, fps, frames, window):
    assert al.mel_window(frame, fps, frames) == window


def test_a_fixed_number_of_columns_lies_around_the_middle_of_the_frames():
    # 5 frames at 30 fps last 13.33 columns; 16 columns begin 1.33 before them: 8 − 1.33 = 6.67.
    assert al.mel_window(3, 30, 5, steps=16) == (6, 22)
    assert al.mel_window(7, 25, 5, steps=16) == al.mel_window(7, 25, 5)


@pytest.mark.parametrize(
    ("convention", "frame", "start"),
    [
        ("official", 0, 0),
        ("official", 1, 0),
        ("official", 2, 3),
        ("official", 6, 16),
        ("official", 9, 25),  # 25.6
        ("wav2lip_inference", 0, 0),
        ("wav2lip_inference", 9, 28),  # 28.8
        ("centred", 0, -6),  # 1.6 − 7.5 = −5.9
        ("centred", 2, 1),  # 8 − 7.5 = 0.5, halves go up
        ("centred", 5, 10),  # 17.6 − 7.5 = 10.1
    ],
)
def test_per_frame_window_by_hand(convention, frame, start):
    assert al.per_frame_mel_window(frame, 25, convention) == (start, start + 16)


@pytest.mark.parametrize(
    ("convention", "mean_ms", "low_ms", "high_ms"),
    [("official", 28.75, 23.75, 33.75), ("wav2lip_inference", 68.75, 63.75, 73.75)],
)
def test_the_lead_of_the_published_windows_is_as_documented(convention, mean_ms, low_ms, high_ms):
    frames = np.arange(1, 101)
    starts = np.array([al.per_frame_mel_window(int(k), 25, convention).start for k in frames])
    lead = 1000 * ((starts + 7.5) / 80 - (frames + 0.5) / 25)
    assert lead.mean() == pytest.approx(mean_ms)
    assert (lead.min(), lead.max()) == pytest.approx((low_ms, high_ms))


def test_the_lag_of_the_expert_window_is_as_documented():
    frames = np.arange(100)
    starts = np.array([al.mel_window(int(k)).start for k in frames])
    lead = 1000 * ((starts + 7.5) / 80 - (frames + 2.5) / 25)
    assert (lead.min(), lead.mean(), lead.max()) == pytest.approx((-16.25, -11.25, -6.25))


@pytest.mark.parametrize("fps", RATES)
def test_centred_windows_are_within_half_a_column_and_never_go_back(fps):
    starts = np.array([al.per_frame_mel_window(k, fps).start for k in range(2000)])
    ideal = 80 * (np.arange(2000) + 0.5) / float(fps) - 7.5
    assert np.abs(starts - ideal).max() <= 0.5 + 1e-9
    assert (np.diff(starts) >= 0).all()
    assert set(np.diff(starts)) <= {int(80 // float(fps)), int(80 // float(fps)) + 1}


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("convention", ["centred", "official", "wav2lip_inference"])
def test_every_frame_gets_a_window_even_at_the_ends(fps, convention):
    n_frames = 37
    steps = 1 + al.sample_range(0, n_frames, fps).stop // 200
    mel = np.arange(80 * steps, dtype=np.float32).reshape(80, steps)
    starts = [al.per_frame_mel_window(k, fps, convention).start for k in range(n_frames)]
    windows = al.mel_windows(mel, starts)
    assert windows.shape == (n_frames, 80, 16)
    for window, start in zip(windows, starts, strict=True):
        columns = np.clip(np.arange(start, start + 16), 0, steps - 1)
        np.testing.assert_array_equal(window, mel[:, columns])


@pytest.mark.parametrize("fps", RATES)
def test_expert_windows_of_whole_clips_never_leave_the_audio(fps):
    for n_frames in range(5, 300):
        steps = 1 + al.sample_range(0, n_frames, fps).stop // 200
        window = al.mel_window(n_frames - 5, fps, 5)
        assert window.start >= 0 and window.stop <= steps


def test_silence_stands_outside_the_audio_when_asked():
    mel = np.ones((80, 10), np.float32)
    windows = al.mel_windows(mel, [-3, 8], steps=4, pad="silence")
    np.testing.assert_array_equal(windows[0, 0], [-4, -4, -4, 1])
    np.testing.assert_array_equal(windows[1, 79], [1, 1, -4, -4])
    assert windows.flags.c_contiguous and windows.dtype == np.float32


def test_a_window_far_outside_is_all_padding():
    mel = np.arange(3.0)[None]
    np.testing.assert_array_equal(al.mel_windows(mel, [100, -100], steps=2), [[[2, 2]], [[0, 0]]])


def test_mfcc_windows_follow_syncnet():
    mfcc = np.arange(99 * 13, dtype=np.float64).reshape(99, 13)  # 25 frames
    assert al.mfcc_window(0) == (0, 20)
    assert al.mfcc_window(7) == (28, 48)
    assert al.mfcc_window(3, fps=30) == (10, 30)
    windows = al.mfcc_windows(mfcc, [al.mfcc_window(t).start for t in (0, 7)])
    np.testing.assert_array_equal(windows, np.stack([mfcc[0:20].T, mfcc[28:48].T]))


def test_features_at_frames_reads_the_frame_centres():
    ramp = (np.arange(100) / 50.0)[:, None].astype(np.float32)  # a feature that says its own time
    np.testing.assert_allclose(
        al.features_at_frames(ramp, 40, 25)[:, 0], (np.arange(40) + 0.5) / 25, atol=1e-6
    )
    np.testing.assert_allclose(
        al.features_at_frames(ramp, 50, 30)[:, 0], (np.arange(50) + 0.5) / 30, atol=1e-6
    )
    hubert = ramp + np.float32(al.HUBERT_FIRST_STEP_SECONDS)
    at_frames = al.features_at_frames(hubert, 40, 25, first_step_seconds=al.HUBERT_FIRST_STEP_SECONDS)
    np.testing.assert_allclose(at_frames[:, 0], (np.arange(40) + 0.5) / 25, atol=1e-6)


def test_features_are_held_at_the_ends_and_a_single_step_serves_every_frame():
    ramp = np.arange(10, dtype=np.float32)[:, None]
    assert al.features_at_frames(ramp, 8, 25)[-1, 0] == 9
    np.testing.assert_array_equal(al.features_at_frames(ramp[:1] + 3, 5, 25), np.full((5, 1), 3, np.float32))


@pytest.mark.parametrize("fps", RATES)
def test_features_have_one_row_a_frame_and_keep_their_order(fps):
    ramp = np.arange(200, dtype=np.float32)[:, None]
    rows = al.features_at_frames(ramp, 90, fps)
    assert rows.shape == (90, 1) and rows.dtype == np.float32
    assert (np.diff(rows[:, 0]) > 0).all()


def test_feature_window_by_hand():
    assert al.feature_window(10, 25) == (16, 26)
    assert al.feature_window(0, 25) == (-4, 6)
    assert al.feature_window(10, 25, 0, 0) == (20, 22)
    assert al.feature_window(3, 30, 1, 1) == (3, 8)  # 3.33 ; 5 steps
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(
        al.feature_windows(features, [-1, 4], 3), [features[[0, 0, 1]], features[[4, 5, 5]]]
    )


def test_feature_steps_are_seconds_times_fifty_rounded():
    assert [al.feature_steps(n) for n in (159, 160, 320, 479, 480, 16000, 16159)] == [0, 1, 1, 1, 2, 50, 50]
    assert al.feature_steps(44100, 44100) == 50


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_sample_ranges_tile_and_count_back(fps, sample_rate):
    stop = 0
    for frame in range(500):
        window = al.sample_range(frame, 1, fps, sample_rate)
        assert window.start == stop
        stop = window.stop
        assert al.frames_in(stop, sample_rate, fps) == frame + 1
        assert al.frames_in(stop - 1, sample_rate, fps) == frame
    assert abs(stop - 500 * sample_rate / float(fps)) <= 0.5 + 1e-6


def test_sample_range_by_hand():
    assert al.sample_range(2, 5, 25) == (1280, 4480)
    assert al.sample_range(1, 1, 30) == (533, 1067)
    assert al.frames_in(64000) == 100
    assert al.frames_in(63999) == 99


def test_a_frame_rate_must_be_positive():
    for fps in (0, -25, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            al.mel_window(0, fps)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="centred, official"):
        al.per_frame_mel_window(0, 25, "center")
    with pytest.raises(ValueError, match="edge"):
        al.mel_windows(np.zeros((80, 4)), [0], pad="zeros")
    with pytest.raises(ValueError, match="at least one step"):
        al.mel_windows(np.zeros((80, 0)), [0])
