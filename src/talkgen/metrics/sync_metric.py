"""Columns of a sync expert: one reading of the score of every clip."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from talkgen.metrics.footage import Footage
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.sync_distance import SyncScore
from talkgen.metrics.whole_clip import WholeClip

Reading = Literal["confidence", "distance", "offset"]


class SyncMetric(WholeClip, NeedsWeights):
    """Scores whole clips at 25 fps; a subclass gives ``names`` and :meth:`score`.

    Args:
        reading: ``"confidence"``, how much nearer lips and sound are at the best shift than at a middling
            one; ``"distance"`` at the best shift; or ``"offset"``: |best shift| in frames of 40 ms.
        variant: id in the column's brackets.

    Raises:
        ValueError: there is no such reading.
    """

    names: ClassVar[Mapping[Reading, str]]
    """Reading → name of its column."""

    def __init__(self, reading: Reading, variant: str) -> None:
        super().__init__()
        if reading not in self.names:
            raise ValueError(f"{reading!r} is not one of {', '.join(self.names)}")
        self.reading: Reading = reading
        self.column = f"{self.names[reading]}[{variant}]"

    @property
    def digits(self) -> int:  # type: ignore[override]
        """Offsets are whole frames before the mean."""
        return 2 if self.reading == "offset" else 3

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]
        """Confidence grows with sync; distance and offset shrink."""
        return self.reading == "confidence"

    @abstractmethod
    def score(self, frames: Tensor, sound: Tensor, pieces: Sequence[Footage]) -> SyncScore:
        """Of one clip, whose frames (t, h, w, 3) and sound (samples,) are those of its pieces."""

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing where the metric lacks something."""
        if self.lacking is None:
            super().update(footage)

    def clip_value(self, pieces: Sequence[Footage]) -> float:
        """See ``SyncScore``; NaN without windows."""
        frames = torch.cat([piece.generated for piece in pieces])
        sound = torch.cat([piece.sound for piece in pieces if piece.sound is not None])
        score = self.score(frames, sound, pieces)
        if self.reading == "offset":
            return float("nan") if score.distance != score.distance else float(abs(score.offset))
        return score.confidence if self.reading == "confidence" else score.distance


def generated_points(pieces: Sequence[Footage]) -> Tensor:
    """Landmarks of all generated frames of a clip (t, 68, 2)."""
    return torch.cat([p.generated_landmarks for p in pieces if p.generated_landmarks is not None])
