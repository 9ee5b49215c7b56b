"""Metrics that keep one number a frame, so that clips, not frames, are the unit of means and intervals."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from talkgen.metrics.footage import Footage


class PerClip(Metric):
    """One number a clip, from what is kept of each of its frames; then the mean over clips, so that a long
    clip counts as much as a short one. A subclass gives ``column`` and :meth:`statistic`.

    Attributes:
        column: name with the variant id in brackets.
        digits: shown after the point.
        has_interval: whether an interval over clips means anything.
        needs: what must have been computed for it; see ``Footage.has``.
    """

    full_state_update = False
    needs: frozenset[str] = frozenset()
    digits: ClassVar[int] = 3
    has_interval: ClassVar[bool] = True
    column: str
    rows: list[Tensor]
    clips: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("clips", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def statistic(self, rows: Tensor) -> float:
        """The number of a clip from the float64 rows of its frames in order; NaN if undefined."""

    def record(self, clip: int, rows: Tensor) -> None:
        """Keep a row (t,) or (t, k) a frame of a clip."""
        self.rows.append(rows.double().cpu())
        self.clips.append(torch.full((len(rows),), clip))

    def per_clip(self) -> dict[int, float]:
        """Clip number → its number."""
        if not len(self.rows):
            return {}
        # After a synchronisation over processes the states are tensors instead of lists.
        rows, clips = (torch.cat(list(s)) if isinstance(s, list) else s for s in (self.rows, self.clips))
        return {int(clip): self.statistic(rows[clips == clip]) for clip in clips.unique()}

    def compute(self) -> Tensor:
        """Mean over the clips that have a number; NaN when none has."""
        return torch.tensor(list(self.per_clip().values()), dtype=torch.float64).nanmean()


class ClipStatistic(PerClip):
    """A :class:`PerClip` over footage; a subclass gives ``column``, :meth:`frame_rows` and ``statistic``."""

    @abstractmethod
    def frame_rows(self, footage: Footage) -> Tensor:
        """What is kept of each frame, float (t, k)."""

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; one that lacks what the metric needs is left out."""
        if all(footage.has(need) for need in self.needs):
            self.record(footage.clip, self.frame_rows(footage))


class ClipMean(PerClip):
    """Mean over the frames of a clip of one float a frame (t,), NaN where it is undefined."""

    def statistic(self, rows: Tensor) -> float:
        """Mean over the frames that are defined; a clip without any is NaN."""
        return float(rows.nanmean())


class ClipMetric(ClipMean):
    """A :class:`ClipMean` over footage; a subclass gives ``column`` and :meth:`frame_values`.

    Example::

        metric = PSNR()
        metric.update(footage)      # as often as there are pieces of clips, in any order
        metric.per_clip()           # {0: 31.4, 1: 29.9}
        metric.compute()            # tensor(30.65)
    """

    @abstractmethod
    def frame_values(self, footage: Footage) -> Tensor:
        """One float a frame (t,), NaN where it is undefined."""

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; one that lacks what the metric needs is left out."""
        if all(footage.has(need) for need in self.needs):
            self.record(footage.clip, self.frame_values(footage))
