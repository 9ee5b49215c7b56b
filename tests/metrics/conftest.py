"""A store whose pictures, mouths and sounds are simple enough to recompute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talkgen.data.clip import Clip
from talkgen.data.store import Store, StoreWriter

STORED = 64
LENGTHS = {"test": [20, 37, 12], "val": [8], "train": [10]}


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three test clips, one of each other split: a soft blob that wanders over a gradient."""
    root = tmp_path_factory.mktemp("store")
    y, x = np.mgrid[:STORED, :STORED].astype(np.float32)
    rng = np.random.default_rng(0)
    with StoreWriter(root) as writer:
        for split, lengths in LENGTHS.items():
            for number, frames in enumerate(lengths):
                clip = Clip(f"{split}/{number}", "folder", split, f"{split}{number}", frames, 25.0, STORED)
                phase = np.arange(frames)[:, None, None] / 5 + number
                blob = np.exp(-((x - 24 - 8 * np.cos(phase)) ** 2 + (y - 30 - 4 * np.sin(phase)) ** 2) / 40)
                video = np.stack([180 * blob, 3 * x + 0 * blob, 100 + 2 * y - 50 * blob], -1)
                video += rng.normal(0, 6, video.shape)  # texture, so that codecs have something to lose
                landmarks = np.full((frames, 68, 2), 24, np.float32)
                landmarks[:, 48:, 0] += np.linspace(-8, 8, 20)
                landmarks[:, 48:, 1] += 10
                steps = round(frames * 3.2)
                mel = np.clip(rng.normal(0, 1.5, (80, steps)), -4, 4).astype(np.float32)
                sound = (8000 * np.sin(np.arange(frames * 640) / 20)).astype(np.int16)
                warp = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1))
                arrays = {"mel": mel, "waveform": sound, "landmarks": landmarks}
                arrays |= {"identity_warp": warp, "crop_matrix": warp}
                writer.add(clip, video.clip(0, 255).astype(np.uint8), arrays)
    return Store.open(root)


@pytest.fixture(scope="session")
def store_folder(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ``small_store``."""
    return next(tmp_path_factory.getbasetemp().glob("store*"))
