"""Mel spectrogram: parity with Wav2Lip's audio.py, and its settings."""

from __future__ import annotations

import numpy as np
import pytest

from talkgen.audio.mel import MEL_SILENCE, MelSettings, mel_filterbank, mel_spectrogram


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_parity_with_wav2lip(reference, pad_mode):
    numbers = np.load(reference / "audio.npz")
    mel = mel_spectrogram(numbers["waveform_int16"] / 32768, MelSettings(pad_mode=pad_mode))
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel, numbers[f"mel_{pad_mode}"], atol=1e-5)


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_parity_on_real_speech(shared, pad_mode):
    numbers = np.load(shared / "parity" / "b_wav2lip_mel.npz")
    settings = MelSettings(pad_mode=pad_mode)
    mel = mel_spectrogram(numbers["sda_16k_float_first2s"], settings)
    np.testing.assert_allclose(mel, numbers[f"mel_sda_{pad_mode}"], atol=1e-5)
    english = np.load(shared / "parity" / "b_mfcc.npz")["english_int16_2s"] / 32768
    mel = mel_spectrogram(english, settings)[:, :-2]  # the vector goes on where this waveform ends
    np.testing.assert_allclose(mel, numbers[f"mel_english_as16k_{pad_mode}"][:, : mel.shape[1]], atol=1e-5)


def test_the_filterbank_is_librosas():
    import librosa

    for rate, n_fft, n_mels, fmin, fmax in [(16000, 800, 80, 55, 7600), (16000, 400, 80, 0, 8000)]:
        expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
        np.testing.assert_allclose(mel_filterbank(rate, n_fft, n_mels, fmin, fmax).T, expected, atol=1e-8)


def test_the_two_pad_modes_differ_only_at_the_ends():
    waveform = np.random.default_rng(0).normal(0, 0.1, 16000)
    reflect, zeros = (
        mel_spectrogram(waveform, MelSettings(pad_mode=mode)) for mode in ("reflect", "constant")
    )
    np.testing.assert_array_equal(reflect[:, 2:-2], zeros[:, 2:-2])
    assert np.abs(reflect[:, :2] - zeros[:, :2]).max() > 0.01


@pytest.mark.parametrize("samples", [1, 199, 200, 640, 16000, 60123])
def test_eighty_steps_a_second(samples):
    assert mel_spectrogram(np.full(samples, 0.1)).shape == (80, 1 + samples // 200)


def test_silence_and_loudness():
    assert (mel_spectrogram(np.zeros(8000, np.float32)) == MEL_SILENCE).all()
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    loud, quiet = mel_spectrogram(0.5 * tone), mel_spectrogram(0.05 * tone)
    band = int(loud[:, 40].argmax())
    assert loud[band, 40] - quiet[band, 40] == pytest.approx(
        20 * 8 / 100, abs=1e-4
    )  # 20 dB of a 100 dB range of 8
    centre = mel_filterbank(16000, 800, 80, 55, 7600)[:, band].argmax() * 20
    assert abs(centre - 1000) < 100


def test_long_audio_is_the_same_block_by_block():
    waveform = np.random.default_rng(1).normal(0, 0.1, 200 * 700)
    whole = mel_spectrogram(waveform)
    part = mel_spectrogram(waveform[200 * 250 : 200 * 350])  # lies across a block of 256 steps
    np.testing.assert_allclose(whole[:, 253:348], part[:, 3:98], atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hop": 0},
        {"hop": 900},
        {"fmin": 8000.0},
        {"fmax": 9000.0},
        {"preemphasis": 1.0},
        {"min_level_db": 10.0},
        {"pad_mode": "edge"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError):
        MelSettings(**wrong)


def test_waveforms_that_make_no_sense_are_refused():
    with pytest.raises(TypeError, match="divide 16-bit"):
        mel_spectrogram(np.zeros(800, np.int16))
    for shape in [(0,), (2, 800)]:
        with pytest.raises(ValueError, match="shape"):
            mel_spectrogram(np.zeros(shape))
