"""Do lips move while nobody speaks? What leaks through is the target's own speech, which should be gone."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.footage import Footage
from talkgen.metrics.mouth_opening import opening

QUIET = 0.08
"""A frame is silent when its sound is below this share of its clip's loud frames (95th percentile)."""
FLOOR = 1e-3
"""… or below this, −60 dB of full scale: a clip without any speech is silent throughout."""
LEAST_FRAMES = 5
"""Silent frames that a clip must have."""


def frame_loudness(sound: Tensor, frames: int) -> Tensor:
    """Root mean square of the sound of each frame: (samples,) → (frames,)."""
    edges = torch.linspace(0, len(sound), frames + 1).round().long().tolist()
    parts = [sound[a:b] for a, b in itertools.pairwise(edges)]
    return torch.stack([part.square().mean().sqrt() if len(part) else part.new_zeros(()) for part in parts])


class LipLeak(ClipStatistic):
    """Mean distance of the mouth's opening from its median over the silent frames of the driving sound, in
    hundredths of the distance between the eyes; mean over clips that have silent frames.

    The ground truth's own row says how much people move their lips in pauses; a detector's noise is in both.
    Most telling in rows that another clip's sound drives: there the target speaks on where the sound rests.
    """

    higher_is_better = False
    digits: ClassVar[int] = 2
    needs = frozenset({"sound", "landmarks"})
    column = "lip leak×100"

    def frame_rows(self, footage: Footage) -> Tensor:
        """Opening and loudness (t, 2)."""
        assert footage.sound is not None and footage.generated_landmarks is not None  # by ``needs``
        loud = frame_loudness(footage.sound, footage.frames)
        return torch.stack([opening(footage.generated_landmarks).double(), loud.double()], dim=1)

    def statistic(self, rows: Tensor) -> float:
        """Of one clip; NaN with fewer than five silent frames."""
        loud = float(rows[:, 1].quantile(0.95))
        silent = rows[:, 1] <= max(QUIET * loud, FLOOR)
        openings = rows[silent & ~rows[:, 0].isnan(), 0]
        if len(openings) < LEAST_FRAMES:
            return float("nan")
        return float(100 * (openings - openings.median()).abs().mean())
