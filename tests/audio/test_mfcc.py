"""SyncNet's MFCC: parity with python_speech_features, and the refusal of floats."""

from __future__ import annotations

import numpy as np
import pytest

from talkgen.audio.mfcc import syncnet_mfcc


def test_parity_with_python_speech_features(reference):
    numbers = np.load(reference / "audio.npz")
    np.testing.assert_allclose(syncnet_mfcc(numbers["waveform_int16"]), numbers["mfcc"], atol=1e-9)
    np.testing.assert_allclose(syncnet_mfcc(np.zeros(16000, np.int16)), numbers["mfcc_silence"], atol=1e-9)


@pytest.mark.parametrize("name", ["english", "sda_example"])
def test_parity_on_real_speech_at_other_rates(shared, name):
    numbers = np.load(shared / "parity" / "b_mfcc.npz")
    mfcc = syncnet_mfcc(numbers[f"{name}_int16_2s"], int(numbers[f"{name}_sr"]))
    np.testing.assert_allclose(mfcc, numbers[f"mfcc_{name}_native_sr"], atol=1e-9)


def test_digital_silence():
    mfcc = syncnet_mfcc(np.zeros(1600, np.int16))
    np.testing.assert_allclose(mfcc[:, 0], np.log(2.0**-52))
    np.testing.assert_allclose(mfcc[:, 1:], 0, atol=1e-12)


def test_energy_of_a_constant_by_hand():
    # After pre-emphasis the second window holds 0.03·x, 400 times; Parseval over 512 points: Σ|X|²/512 of the
    # half spectrum = (Σ s² + (X₀² + X₂₅₆²)/512) / 2 with X₀ = Σ s and X₂₅₆ = Σ ± s = 0.
    sample = 0.03 * 1000
    total = 400 * sample**2
    expected = np.log((total + (400 * sample) ** 2 / 512) / 2)
    assert syncnet_mfcc(np.full(1600, 1000, np.int16))[1, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("frames", [1, 5, 25, 1500])
def test_four_steps_a_frame_less_one(frames):
    noise = np.random.default_rng(0).integers(-1000, 1000, 640 * frames).astype(np.int16)
    assert syncnet_mfcc(noise).shape == (4 * frames - 1, 13)


def test_a_short_waveform_fills_one_window():
    assert syncnet_mfcc(np.ones(10, np.int16)).shape == (1, 13)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_other_samples_are_refused(kind):
    with pytest.raises(TypeError, match="to_int16"):
        syncnet_mfcc(np.zeros(1600, kind))
