"""A small store with content that tests can recompute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from talkgen.data.clip import Clip
from talkgen.data.store import Store, StoreWriter


def frame_level(clip: int, frame: int) -> int:
    """Grey level of a frame; every frame of the store has another one nearby."""
    return (clip * 37 + frame * 3) % 250


def clip_arrays(clip: int, frames: int, size: int) -> dict[str, np.ndarray]:
    """Arrays whose values say where they are from: time step + 1000 × clip."""
    steps = int(frames / 25 * 80) + 1
    mel = np.tile(np.arange(steps, dtype=np.float32) + 1000 * clip, (80, 1))
    samples = frames * 640
    landmarks = np.zeros((frames, 68, 2), np.float32)
    landmarks[..., 0] = np.linspace(10, size - 20, 68) + np.arange(frames)[:, None] % 5
    landmarks[..., 1] = size / 2
    warp = np.tile(np.array([[0.5, 0.1, 3], [-0.1, 0.5, 7]], np.float32), (frames, 1, 1))
    return {
        "mel": mel,
        "waveform": (np.arange(samples) % 30000).astype(np.int16),
        "landmarks": landmarks,
        "identity_warp": warp,
        "crop_matrix": warp,
        "whisper": np.arange(2 * frames, dtype=np.float32)[:, None] * np.ones(4, np.float32),
        "truth_opening": np.arange(frames, dtype=np.float32),
    }


def write_store(root: Path, lengths: list[int], size: int = 32, shard_bytes: int = 200_000) -> Store:
    """Clips of the given lengths; the last fifth (at least one where there are three) is the test split."""
    held_out = max(1, len(lengths) // 5) if len(lengths) > 2 else 0
    with StoreWriter(root, shard_bytes=shard_bytes) as writer:
        for number, frames in enumerate(lengths):
            split = "test" if number >= len(lengths) - held_out else "train"
            clip = Clip(
                f"id{number // 2}/clip{number}", "folder", split, f"id{number // 2}", frames, 25.0, size
            )
            video = np.empty((frames, size, size, 3), np.uint8)
            video[:] = np.array([frame_level(number, frame) for frame in range(frames)])[:, None, None, None]
            writer.add(clip, video, clip_arrays(number, frames, size))
    return Store.open(root)


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Store]:
    """Writes a store with clips of the given lengths and opens it."""
    return write_store


@pytest.fixture(scope="session")
def levels_of() -> Callable[[int, range], list[int]]:
    """Grey levels that frames of a clip of such a store have."""
    return lambda clip, frames: [frame_level(clip, frame) for frame in frames]


@pytest.fixture(scope="session")
def arrays_of() -> Callable[[int, int, int], dict[str, np.ndarray]]:
    """Arrays that a clip of such a store has."""
    return clip_arrays
