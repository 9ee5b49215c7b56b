"""Metrics that compare the features of all generated frames with those of all true ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from talkgen.metrics.footage import Footage
from talkgen.metrics.required_weights import NeedsWeights


class FeatureSets(Metric, NeedsWeights):
    """Keeps two sets of feature vectors; a subclass says how they are made and compared.

    Where nobody knows what a frame should be, the set of true frames holds the target's, as in the papers'
    cross-driven tables.

    A distance of distributions has no value for a clip: per-clip values of these distances are mostly bias
    (a Fréchet distance over 25 frames is six times that over 1000 from the same distribution).

    Attributes:
        column: name with the variant id in brackets.
        digits: shown after the point.
        has_interval: False, since there are no values for clips.
    """

    full_state_update = False
    needs: frozenset[str] = frozenset()
    higher_is_better = False
    digits: ClassVar[int] = 2
    has_interval: ClassVar[bool] = False
    column: str
    generated: list[Tensor]
    ground_truth: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("generated", default=[], dist_reduce_fx="cat")
        self.add_state("ground_truth", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def distance(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """Of two sets (n, d) and (m, d)."""

    def record(
        self, footage: Footage, features: Callable[[Tensor], Tensor], frames: slice = slice(None)
    ) -> None:
        """Keep what ``features`` makes of these frames of both videos."""
        self.generated.append(features(footage.generated[frames]))
        self.ground_truth.append(features(footage.ground_truth[frames]))

    def sets(self) -> tuple[Tensor, Tensor]:
        """Generated and true features, (n, d) each."""
        states = (self.generated, self.ground_truth)
        first, second = (torch.cat(list(s)) if isinstance(s, list) else s for s in states)
        return first, second

    def per_clip(self) -> dict[int, float]:
        """No values."""
        return {}

    def compute(self) -> Tensor:
        """Distance of the two sets; NaN where nothing was seen."""
        if not len(self.generated):
            return torch.tensor(float("nan"), dtype=torch.float64)
        return self.distance(*self.sets())
