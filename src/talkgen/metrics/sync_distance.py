"""From vectors of sound and lips to LSE-C, LSE-D and the offset (`calc_pdist` and `evaluate` of SyncNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFTS = 15
"""Frames to both sides, by which the sound is moved."""

Ends = Literal["zeros", "inside"]


@dataclass(frozen=True)
class SyncScore:
    """Attributes:

    confidence: LSE-C, median − minimum of the mean distance over the shifts; higher is better.
    distance: LSE-D, the minimum; lower is better.
    offset: the shift of the minimum in frames, positive where the sound is early.
    """

    confidence: float
    distance: float
    offset: int


def shifted_distances(lip: Tensor, audio: Tensor, shifts: int = SHIFTS, ends: Ends = "zeros") -> Tensor:
    """Distance of every window of lips to the sound ``k − shifts`` frames away.

    d[t, k] = ‖lip_t − audio_{t+k−shifts} + 1e-6‖, PyTorch's pairwise distance, as published.

    Args:
        lip: (n, d).
        audio: (n, d).
        shifts: how far to both sides.
        ends: beyond the ends of the sound there are ``"zeros"``, as published: a third of all values of a
            29-frame clip are distances to zero vectors; ``"inside"`` puts NaN there.

    Returns:
        float32 (n, 2 · shifts + 1).
    """
    padded = F.pad(audio, (0, 0, shifts, shifts), value=0.0 if ends == "zeros" else float("nan"))
    columns = [(lip - padded[k : k + len(lip)] + 1e-6).square().sum(1).sqrt() for k in range(2 * shifts + 1)]
    return torch.stack(columns, 1)


def sync_score(distances: Tensor) -> SyncScore:
    """Scores of one clip from :func:`shifted_distances` (n, 2 · shifts + 1); NaN entries are left out.

    NaN where there are no windows.
    """
    if not len(distances):
        return SyncScore(float("nan"), float("nan"), 0)
    means = distances.nanmean(0)
    means = torch.where(means.isnan(), torch.inf, means)  # a shift beyond a short clip has no value
    known = means[means.isfinite()]
    place = int(means.argmin())
    lowest = means[place]
    return SyncScore(float(known.median() - lowest), float(lowest), len(means) // 2 - place)
