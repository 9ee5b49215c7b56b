"""Cepstral coefficients as SyncNet reads them (Chung & Zisserman, 2016; joonson/syncnet_python).

SyncNet was trained on ``python_speech_features.mfcc`` with its defaults, called on raw 16-bit samples. Other
MFCCs are no substitute: another mel scale or window changes the coefficients until LSE-C and LSE-D mean
nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_PREEMPHASIS = 0.97
_WINDOW_SECONDS = 0.025
_HOP_SECONDS = 0.01
_FILTERS = 26
_COEFFICIENTS = 13
_LIFTER = 22
_BLOCK_STEPS = 4096


def syncnet_mfcc(waveform: NDArray[np.int16], sample_rate: int = 16000) -> NDArray[np.float64]:
    """Thirteen coefficients a step, 100 steps a second.

    Pre-emphasis 0.97, rectangular windows of 25 ms every 10 ms, power spectrum of 512 points (at 16 kHz;
    otherwise the power of two that holds a window), 26 triangular mel filters from 0 Hz to half the sample
    rate, logarithm, orthonormal DCT-II, sinusoidal lifter of 22; coefficient 0 is replaced by the logarithm
    of the window's energy.

    Args:
        waveform: **int16** ``(samples,)``. Floats in [-1, 1] would shift coefficient 0 by −2·ln 32768 ≈ −20.8
            and nothing else: scores would be wrong without a sign of it, so they are refused.
        sample_rate: samples a second; SyncNet itself wants 16000.

    Returns:
        float64 ``(steps, 13)``; steps = 1 + ceil((samples − 400) / 160) at 16 kHz, that is 4·F − 1 for the
        640·F samples of F video frames at 25 fps. Digital silence gives −36.04 in coefficient 0 and 0
        elsewhere.

    Raises:
        TypeError: the samples are not int16.
    """
    waveform = np.asarray(waveform)
    if waveform.dtype != np.int16:
        raise TypeError(
            f"SyncNet's MFCC needs raw 16-bit samples, got {waveform.dtype}: coefficient 0 would be off by "
            "20.8; convert with talkgen.audio.waveform.to_int16"
        )
    if waveform.ndim != 1 or waveform.size == 0:
        raise ValueError(f"expected a waveform of shape (samples,), got {waveform.shape}")
    # Halves round up, as in python_speech_features (this matters at 44.1 kHz: 1102.5 samples).
    length, hop = int(_WINDOW_SECONDS * sample_rate + 0.5), int(_HOP_SECONDS * sample_rate + 0.5)
    n_fft = 1 << (length - 1).bit_length()
    steps = 1 if waveform.size <= length else 1 + -(-(waveform.size - length) // hop)
    emphasised = np.zeros((steps - 1) * hop + length)  # zeros after the end fill the last window
    emphasised[: waveform.size] = waveform
    emphasised[1 : waveform.size] -= _PREEMPHASIS * waveform[:-1]
    frames = sliding_window_view(emphasised, length)[::hop]
    filterbank, lifter = _filterbank(sample_rate, n_fft), _lifter()
    result = np.empty((steps, _COEFFICIENTS))
    for first in range(0, steps, _BLOCK_STEPS):
        block = slice(first, first + _BLOCK_STEPS)
        spectrum = scipy.fft.rfft(frames[block], n_fft, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2) / n_fft
        cepstrum = scipy.fft.dct(_log(power @ filterbank), type=2, axis=1, norm="ortho")
        result[block] = cepstrum[:, :_COEFFICIENTS] * lifter
        result[block, 0] = _log(power.sum(axis=1))
    return result


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm in which 0 counts as the smallest step of a double around 1 (2.2e-16)."""
    return np.log(np.where(values == 0, np.finfo(np.float64).eps, values))


@lru_cache(maxsize=4)
def _lifter() -> NDArray[np.float64]:
    return 1 + (_LIFTER / 2) * np.sin(np.pi * np.arange(_COEFFICIENTS) / _LIFTER)


@lru_cache(maxsize=4)
def _filterbank(sample_rate: int, n_fft: int) -> NDArray[np.float64]:
    """Triangles between whole FFT bins that are evenly spaced on the scale 2595·log10(1 + f/700).

    Shape ``(n_fft // 2 + 1, 26)``.
    """
    mels = np.linspace(0, 2595 * np.log10(1 + sample_rate / 2 / 700), _FILTERS + 2)
    edges = np.floor((n_fft + 1) * 700 * (10 ** (mels / 2595) - 1) / sample_rate)
    bins = np.arange(n_fft // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # neighbouring edges may share a bin; those sides are empty
        rising = np.where((bins >= low) & (bins < middle), (bins - low) / (middle - low), 0.0)
        falling = np.where((bins >= middle) & (bins < high), (high - bins) / (high - middle), 0.0)
    return rising + falling
