"""Damage of sound: noise, few bits, low rates, laughter, silence. All take and give float32 in [-1, 1] at
16 kHz.
"""

from __future__ import annotations

import io
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from talkgen.audio.waveform import resample

Waveform = NDArray[np.float32]

RATE = 16000
BOUT_SECONDS, PAUSE_SECONDS = 0.8, 0.8
"""Of laughing or coughing, and between."""


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


def low_bit_rate(waveform: Waveform, kilobits: int) -> Waveform:
    """Through Opus at so many kilobits a second, as telephones and video calls have it."""
    stored = io.BytesIO()
    samples = (np.clip(waveform, -1, 1) * 32767).astype(np.int16)
    with av.open(stored, "w", format="ogg") as written:
        stream = written.add_stream("libopus", rate=RATE)
        stream.bit_rate, stream.layout = 1000 * kilobits, "mono"
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        written.mux(stream.encode(frame))
        written.mux(stream.encode())
    stored.seek(0)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(stored, "r") as container:
        frames = [*container.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for one in frames for part in resampler.resample(one)]
    heard = np.concatenate(parts)[: len(waveform)]
    return np.pad(heard, (0, len(waveform) - len(heard))).astype(np.float32)


def interrupted(waveform: Waveform, by: Literal["laughter", "coughs"], seed: int = 0) -> Waveform:
    """Somebody in the room laughs or coughs, as loud as the speech: bouts of 0.8 s, made of pulses and noise.

    The lips should go on with the speech.
    """
    rng = np.random.default_rng(seed)
    added = np.zeros(len(waveform))
    bout = round(BOUT_SECONDS * RATE)
    for start in range(round(PAUSE_SECONDS * RATE / 2), len(waveform), round(PAUSE_SECONDS * RATE) + bout):
        made = _laughter(bout, rng) if by == "laughter" else _coughs(bout, rng)
        part = added[start : start + bout]
        part += made[: len(part)]
    heard = added[added != 0]
    power = float(np.mean(waveform.astype(np.float64) ** 2))
    if len(heard):
        added *= np.sqrt(power / np.mean(heard**2))
    return (waveform + added).astype(np.float32)


def _laughter(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Five calls a second, "ha", whose pitch falls from 300 to 180 Hz (Bachorowski et al. 2001)."""
    time = np.arange(samples) / RATE
    pitch = 300 - 120 * time / time[-1]
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(
        np.exp(-(((number * pitch - 900) / 700) ** 2)) * np.sin(number * phase) for number in range(1, 12)
    )
    beat = time * 5 % 1
    voiced = np.where(beat < 0.45, np.sin(np.pi * beat / 0.45), 0)
    breath = np.where(beat >= 0.45, np.sin(np.pi * (beat - 0.45) / 0.55), 0)
    return np.asarray(voiced * voice + 0.25 * breath * rng.standard_normal(samples))


def _coughs(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Two bursts of noise that set in at once and die away within a fifth of a second."""
    beat = np.arange(samples) / samples * 2 % 1 * (samples / RATE / 2)
    return np.asarray(np.exp(-beat / 0.06) * rng.standard_normal(samples))
