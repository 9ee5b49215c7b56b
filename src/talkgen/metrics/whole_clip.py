"""Metrics that need a clip from its first to its last frame before they can say anything."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from talkgen.metrics.clip_metric import ClipMean
from talkgen.metrics.footage import Footage


class WholeClip(ClipMean):
    """One number a clip, from all of its pieces at once; then the mean over clips.

    Pieces of a clip come in order, one clip after the other; those of one clip are kept until the next
    begins. A subclass gives ``column`` and :meth:`clip_value`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[Footage] = []

    @abstractmethod
    def clip_value(self, pieces: Sequence[Footage]) -> float:
        """The number of a clip; NaN if undefined."""

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; one that lacks what the metric needs is left out."""
        if not all(footage.has(need) for need in self.needs):
            return
        if self._pieces and self._pieces[0].clip != footage.clip:
            self._finish()
        self._pieces.append(footage)

    def _finish(self) -> None:
        if self._pieces:
            value = self.clip_value(self._pieces)
            self.record(self._pieces[0].clip, torch.tensor([value]))
            self._pieces = []

    def per_clip(self) -> dict[int, float]:
        """Clip number → its number; what was shown so far is taken for the whole of the last clip."""
        self._finish()
        return super().per_clip()

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Score the last clip before states are gathered from other processes."""
        self._finish()
        super().sync(*args, **kwargs)

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._pieces = []
