"""Confidence intervals over clips. Frames of a clip are no independent samples, so clips are resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """``low`` and ``high`` end."""

    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval (Efron 1979) of the mean of ``values``, one value a clip.

    Args:
        values: NaN are left out.
        confidence: share of the resampled means that lie inside.
        resamples: how often the clips are drawn anew, with replacement.
        seed: the same seed and values give the same interval.

    Returns:
        None for fewer than two values, which say nothing about their spread.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(known), (resamples, len(known)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(known[drawn].mean(1), [tail, 1 - tail])
    return Interval(float(low), float(high))
