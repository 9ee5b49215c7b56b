"""A moving pattern and a sound like syllables that are the same bits on every machine: a clip for SyncNet."""

from __future__ import annotations

import numpy as np


def video(frames: int = 40, size: int = 224, seed: int = 11) -> np.ndarray:
    """Smooth waves with a dark mouth that opens four times a second, uint8 (t, size, size, 3)."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    waves = np.zeros((size, size))
    for _ in range(8):
        # in the order in which the generator was asked
        scale, down, across = rng.rand(), rng.randint(1, 6), rng.randint(1, 6)
        angle = 2 * np.pi * (down * y / size + across * x / size) + 6.28 * rng.rand()
        waves = waves + scale * np.cos(angle)
    pictures = []
    for t in range(frames):
        opening = 0.5 * (1 - np.cos(2 * np.pi * 4.0 * t / 25.0))
        mouth = np.exp(-(((y - 150) / (6 + 18 * opening)) ** 2 + ((x - 112) / 30) ** 2))
        grey = 128 + 22 * waves + 8 * np.sin(0.2 * t)
        channels = [grey - 70 * mouth, grey - 90 * mouth + 10, grey - 40 * mouth - 15]
        pictures.append(np.clip(np.round(np.stack(channels, -1)), 0, 255).astype(np.uint8))
    return np.stack(pictures)


def sound(samples: int, seed: int = 7) -> np.ndarray:
    """Gliding harmonics under an envelope of four syllables a second, int16 at 16 kHz."""
    t = np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 1.3 * t)) / 16000
    envelope = 0.5 * (1 - np.cos(2 * np.pi * 4.0 * t)) * (0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * t + 0.3))
    harmonics = np.sin(phase) + 0.5 * np.sin(2 * phase + 0.4) + 0.25 * np.sin(5 * phase + 1.1)
    wave = envelope * (harmonics + 0.12 * np.sin(17 * phase)) / 2.0
    wave = wave + 0.01 * np.random.RandomState(seed).randn(samples)
    return np.clip(np.round(wave * 12000), -32768, 32767).astype(np.int16)
