"""The noise that a diffusion model draws the frames of a video from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

NoiseKind = Literal["shared", "correlated", "independent"]
KINDS = ("shared", "correlated", "independent")


@dataclass(frozen=True)
class NoiseMaps:
    """Standard normal maps of the frames of a video, the same in every run and for any batch.

    Attributes:
        kind: ``shared``: one map for all frames, which keeps them from flickering, as published.
            ``correlated``: maps that turn into one another, a new one every ``period`` frames; each frame's
            is standard normal. ``independent``: one for each frame, which flickers.
        seed: of the maps. Frames of videos with one seed have the same noise.
        period: frames from one independent map to the next, of ``correlated``.
    """

    kind: NoiseKind = "shared"
    seed: int = 7
    period: int = 25

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"noise is {', '.join(KINDS)}, not {self.kind!r}")
        if self.period < 1:
            raise ValueError(f"a period is at least one frame, not {self.period}")

    def __call__(self, frames: Sequence[int], size: int) -> Tensor:
        """Maps of the frames with these numbers, ``(n, 3, size, size)``; ``(1, 3, size, size)`` if shared."""
        if self.kind == "shared":
            return self._map(0, size)[None]
        if self.kind == "independent":
            return torch.stack([self._map(frame, size) for frame in frames])
        keys = {key: self._map(key, size) for frame in frames for key in _keys(frame, self.period)}
        maps = []
        for frame in frames:
            first, second = (keys[key] for key in _keys(frame, self.period))
            angle = math.pi / 2 * (frame % self.period) / self.period
            maps.append(math.cos(angle) * first + math.sin(angle) * second)
        return torch.stack(maps)

    def _map(self, number: int, size: int) -> Tensor:
        # The first map is that of the seed itself, which is what the published script draws.
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * number)
        return torch.randn(3, size, size, generator=generator)


def _keys(frame: int, period: int) -> tuple[int, int]:
    return frame // period, frame // period + 1
