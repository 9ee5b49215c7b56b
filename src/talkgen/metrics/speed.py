"""What a row costs: frames a second, latency, memory, evaluations of its network.

There is no convention: papers count the network alone, or leave out detection, or saving. Here everything
begins with a prepared clip (faces found and cut out, mel computed) and ends with finished frames, without
writing a file; ``talkgen generate`` prints what files cost.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch

from talkgen.metrics.clip_metric import PerClip
from talkgen.metrics.footage import Footage
from talkgen.metrics.stopwatch import GenerationCost


class CostMetric(PerClip):
    """One number a clip from what generating it cost; a subclass gives ``column`` and :meth:`value`."""

    needs = frozenset({"cost"})

    @abstractmethod
    def value(self, cost: GenerationCost) -> float:
        """Of one clip; NaN where it is not known."""

    def update(self, footage: Footage) -> None:
        """Frames say nothing about what they cost."""

    def update_cost(self, cost: GenerationCost) -> None:
        """Add a clip."""
        self.record(cost.clip, torch.tensor([self.value(cost)]))

    def statistic(self, rows: torch.Tensor) -> float:
        """Mean over the times that a clip was generated."""
        return float(rows.mean())


class NetworkFPS(CostMetric):
    """Frames a second of what its networks take alone."""

    higher_is_better = True
    digits: ClassVar[int] = 1
    column = "network fps[modules]"

    def value(self, cost: GenerationCost) -> float:
        """Of one clip."""
        return cost.frames / cost.network_seconds if cost.network_seconds else float("nan")


class EndToEndFPS(CostMetric):
    """Frames a second from a prepared clip to finished frames."""

    higher_is_better = True
    digits: ClassVar[int] = 1
    column = "end-to-end fps[prepared clip]"

    def value(self, cost: GenerationCost) -> float:
        """Of one clip."""
        return cost.frames / cost.seconds


class RealTimeFactor(CostMetric):
    """Seconds of work for a second of video; below 1 it keeps up."""

    higher_is_better = False
    column = "real-time factor[prepared clip]"

    def value(self, cost: GenerationCost) -> float:
        """Of one clip."""
        return cost.seconds * cost.fps / cost.frames


class FirstFrameLatency(CostMetric):
    """Seconds until the first frames are there, when all sound is there at once and frames are made in the
    shortest pieces that the method knows.
    """

    higher_is_better = False
    column = "first frame[s]"

    def value(self, cost: GenerationCost) -> float:
        """Of one clip."""
        return cost.first_seconds


class PeakMemory(CostMetric):
    """Most memory while a clip is generated, in MB: of the GPU, weights included, where networks run there;
    else by how much the process grew, weights excluded.
    """

    higher_is_better = False
    digits: ClassVar[int] = 0
    column = "peak memory[MB]"

    def value(self, cost: GenerationCost) -> float:
        """Of one clip."""
        return float("nan") if cost.peak_bytes is None else cost.peak_bytes / 1e6


class NetworkEvaluations(CostMetric):
    """Evaluations of the generating network (NFE) for one frame, or one window of frames."""

    higher_is_better = False
    digits: ClassVar[int] = 0
    has_interval: ClassVar[bool] = False
    column = "NFE"

    def value(self, cost: GenerationCost) -> float:
        """Of one clip."""
        return float("nan") if cost.evaluations is None else cost.evaluations
