"""Log-mel spectrogram as Wav2Lip computes it (Prajwal et al., 2020; Rudrabha/Wav2Lip ``audio.py``).

SyncNet experts, Wav2Lip, Diff2Lip and SadTalker all read this picture of sound: 80 mel bands, 80 steps a
second at 16 kHz, values in [-4, 4].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MEL_SILENCE = -4.0
"""The value of a silent cell under the default settings."""

_BLOCK_STEPS = 256  # spectra held at once: bounds the memory for long audio and stays in the cache


@dataclass(frozen=True)
class MelSettings:
    """How sound becomes a mel spectrogram; the defaults are Wav2Lip's.

    Attributes:
        sample_rate: samples a second of the waveform.
        n_fft: samples of one Fourier transform and of its Hann window.
        hop: samples between steps; 200 at 16 kHz gives 80 steps a second.
        n_mels: bands.
        fmin: lower edge of the lowest band, Hz.
        fmax: upper edge of the highest band, Hz.
        preemphasis: k of y[n] = x[n] − k·x[n−1]; 0 for none.
        ref_level_db: level that is taken off every value, dB.
        min_level_db: level that becomes −max_abs_value, dB (negative).
        max_abs_value: results lie in [−max_abs_value, max_abs_value].
        pad_mode: what stands before the first and after the last sample. ``"reflect"`` is librosa before 0.10
            and what the published checkpoints were trained on; ``"constant"`` (zeros) is what their code
            computes with a newer librosa. They differ in the first and last two steps.
    """

    sample_rate: int = 16000
    n_fft: int = 800
    hop: int = 200
    n_mels: int = 80
    fmin: float = 55.0
    fmax: float = 7600.0
    preemphasis: float = 0.97
    ref_level_db: float = 20.0
    min_level_db: float = -100.0
    max_abs_value: float = 4.0
    pad_mode: Literal["reflect", "constant"] = "reflect"

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.n_fft, self.hop, self.n_mels) < 1:
            raise ValueError("sample_rate, n_fft, hop and n_mels must be at least 1")
        if self.hop > self.n_fft:
            raise ValueError(f"hop {self.hop} is longer than n_fft {self.n_fft}: samples would be skipped")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(
                f"need 0 <= fmin < fmax <= {self.sample_rate / 2:g} Hz, got {self.fmin:g} and {self.fmax:g}"
            )
        if not 0 <= self.preemphasis < 1:
            raise ValueError(f"preemphasis must lie in [0, 1), got {self.preemphasis}")
        if self.min_level_db >= 0 or self.max_abs_value <= 0:
            raise ValueError("min_level_db must be negative and max_abs_value positive")
        if self.pad_mode not in ("reflect", "constant"):
            raise ValueError(f"pad_mode must be 'reflect' or 'constant', got {self.pad_mode!r}")


def mel_spectrogram(
    waveform: NDArray[np.floating], settings: MelSettings | None = None
) -> NDArray[np.float32]:
    """Log-mel spectrogram; column j is centred on sample ``j × hop``.

    With X = |STFT(pre-emphasised waveform)| and M the mel filterbank,
    ``S = 20·log10(max(10^(min/20), M·X)) − ref`` dB and the result is
    ``clip(2a·(S − min)/(−min) − a, −a, a)`` where a is ``max_abs_value``.

    Args:
        waveform: float ``(samples,)`` in [-1, 1] at ``settings.sample_rate``.
        settings: None means Wav2Lip's.

    Returns:
        float32 ``(n_mels, 1 + samples // hop)``.
    """
    settings = settings or MelSettings()
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or waveform.size == 0:
        raise ValueError(f"expected a waveform of shape (samples,), got {waveform.shape}")
    if not np.issubdtype(waveform.dtype, np.floating):
        raise TypeError(f"expected floats in [-1, 1], got {waveform.dtype}; divide 16-bit samples by 32768")
    filterbank, window = _filterbank(settings), _hann(settings.n_fft)
    mel = np.empty((settings.n_mels, 1 + waveform.size // settings.hop), np.float32)
    floor = 10.0 ** (settings.min_level_db / 20.0)
    scale = 2 * settings.max_abs_value / -settings.min_level_db
    for first, frames in _frames(waveform, settings):
        # The transform is in double precision: quiet bands lie 100 dB under loud ones of the same frame, and
        # float32 has only noise there. Sums of magnitudes lose nothing.
        magnitude = np.abs(scipy.fft.rfft(frames * window, axis=1)).astype(np.float32)
        level = 20.0 * np.log10(np.maximum(floor, magnitude @ filterbank)) - settings.ref_level_db
        value = scale * (level - settings.min_level_db) - settings.max_abs_value
        np.clip(value, -settings.max_abs_value, settings.max_abs_value, out=value)
        mel[:, first : first + len(frames)] = value.T
    return mel


def _frames(
    waveform: NDArray[np.floating], settings: MelSettings
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Blocks of overlapping frames, as (number of the first frame, view ``(frames, n_fft)``)."""
    samples = waveform.astype(np.float64)
    emphasised = samples.copy()
    emphasised[1:] -= settings.preemphasis * samples[:-1]
    padded = np.pad(emphasised, settings.n_fft // 2, mode=settings.pad_mode)
    frames = sliding_window_view(padded, settings.n_fft)[:: settings.hop]
    for first in range(0, 1 + waveform.size // settings.hop, _BLOCK_STEPS):
        yield first, frames[first : first + _BLOCK_STEPS]


@lru_cache(maxsize=16)
def _hann(length: int) -> NDArray[np.float64]:
    """Periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@lru_cache(maxsize=16)
def _filterbank(settings: MelSettings) -> NDArray[np.float32]:
    filters = mel_filterbank(
        settings.sample_rate, settings.n_fft, settings.n_mels, settings.fmin, settings.fmax
    )
    return filters.astype(np.float32)


@lru_cache(maxsize=16)
def mel_filterbank(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None
) -> NDArray[np.float64]:
    """Triangular filters on Slaney's mel scale with unit area (Auditory Toolbox, 1998; librosa's default).

    The scale is linear up to 1000 Hz (15 mels) and logarithmic above (27 steps for a factor of 6.4).

    Returns:
        float64 ``(n_fft // 2 + 1, n_mels)``; shared by all callers, so it cannot be written to.
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    per_mel, knee = 200.0 / 3, 15.0
    growth = np.log(6.4) / 27.0

    def to_mel(hertz: float) -> float:
        return hertz / per_mel if hertz < 1000.0 else knee + np.log(hertz / 1000.0) / growth

    mels = np.linspace(to_mel(fmin), to_mel(fmax), n_mels + 2)
    edges = np.where(mels < knee, mels * per_mel, 1000.0 * np.exp(growth * (mels - knee)))
    bins = np.arange(n_fft // 2 + 1)[:, None] * (sample_rate / n_fft)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))
    filters.flags.writeable = False
    return filters
