"""Damage of sound: noise, few bits, low rates, silence. All take and give float32 in [-1, 1] at 16 kHz."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkgen.audio.waveform import resample

Waveform = NDArray[np.float32]


def noisy(waveform: Waveform, snr_db: float, seed: int = 0) -> Waveform:
    """White noise beside the sound, so much quieter by the mean power of both; not clipped."""
    noise = np.random.default_rng(seed).standard_normal(len(waveform)).astype(np.float32)
    power = float(np.mean(waveform.astype(np.float64) ** 2))
    noise *= np.float32(np.sqrt(power / 10 ** (snr_db / 10)))
    return waveform + noise


def coarse(waveform: Waveform, bits: int) -> Waveform:
    """Rounded to so many bits a sample."""
    steps = np.float32(2 ** (bits - 1))
    return (np.round(waveform * steps) / steps).astype(np.float32)


def band_limited(waveform: Waveform, sample_rate: int) -> Waveform:
    """Brought to so many samples a second and back: above half of that nothing is left."""
    back = resample(resample(waveform, 16000, sample_rate), sample_rate, 16000)
    out = np.zeros_like(waveform)
    out[: len(back)] = back[: len(waveform)]
    return out


def silent(waveform: Waveform) -> Waveform:
    """Nothing."""
    return np.zeros_like(waveform)
