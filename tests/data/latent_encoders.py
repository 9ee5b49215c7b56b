"""Encoders that tests can recompute, in place of trained networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class LevelCodes:
    """Every code of a frame is its grey level; the lower half adds 1000."""

    folder: Path
    key: str = "levels"
    size: int = 16
    batch_size: int = 16
    fail_after: int | None = None  # frames, after which the process is killed, so to say
    batches: list[int] = field(default_factory=list)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if self.fail_after is not None and sum(self.batches) >= self.fail_after:
            raise KeyboardInterrupt
        self.batches.append(len(frames))
        levels = frames[:, 0, 0, 0].astype(np.uint16)
        codes = np.tile(levels[:, None, None], (1, 2, 3))
        codes[:, 1] += 1000
        return codes


@dataclass
class LevelIdentity:
    """The direction of a frame is axis 0, and axis 1 where its first warp says so."""

    sha256: str = "abc"
    calls: int = 0

    def __call__(self, frames: np.ndarray, identity_warp: np.ndarray) -> np.ndarray:
        self.calls += 1
        directions = np.zeros((len(frames), 512), np.float32)
        directions[:, int(identity_warp[0, 0, 0] > 0)] = 1
        return directions
