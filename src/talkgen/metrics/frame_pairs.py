"""Metrics that look at each frame together with the one before it."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMean
from talkgen.metrics.footage import Footage


class FramePairs(ClipMean):
    """One value for each pair of neighbouring frames; mean over pairs, then over clips.

    Pieces of a clip come in order, so that the pair over the border of two pieces is seen too. A subclass
    gives ``column`` and :meth:`pair_values`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._clip: int | None = None
        self._last: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def pair_values(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """uint8 RGB (t, h, w, 3) twice → float (t − 1,), NaN where it is undefined."""

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; one that lacks what the metric needs is left out."""
        if not all(footage.has(need) for need in self.needs):
            return
        generated, truth = footage.generated, footage.ground_truth
        if self._last is not None and self._clip == footage.clip:
            generated = torch.cat([self._last[0], generated])
            truth = torch.cat([self._last[1], truth])
        if len(generated) > 1:
            self.record(footage.clip, self.pair_values(generated, truth))
        self._clip, self._last = footage.clip, (generated[-1:].clone(), truth[-1:].clone())

    def reset(self) -> None:
        """Forget everything, the last frame too."""
        super().reset()
        self._clip = self._last = None
