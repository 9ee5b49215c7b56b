"""Which differences between rows are more than chance: paired over clips, corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

LEVEL = 0.05
"""A corrected p below this is a difference."""


class _Cell(Protocol):
    @property
    def per_clip(self) -> Mapping[str, float]: ...


class _Row(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def cells(self) -> Mapping[str, _Cell]: ...


class _Column(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool | None: ...


@dataclass(frozen=True)
class Comparison:
    """Two rows in one column, over the clips that both have.

    Attributes:
        column: name of the metric.
        first, second: names of the rows.
        clips: number of clips with both values.
        difference: mean of first − second.
        p: of Wilcoxon's signed-rank test (two-sided), 1 where all differences are 0.
        p_holm: the same, corrected by Holm for all comparisons of the column.
    """

    column: str
    first: str
    second: str
    clips: int
    difference: float
    p: float
    p_holm: float

    @property
    def differs(self) -> bool:
        """Whether chance is an unlikely explanation."""
        return self.p_holm < LEVEL


def compare_rows(
    rows: Sequence[_Row], columns: Sequence[_Column], tasks: Mapping[str, str]
) -> list[Comparison]:
    """Every pair of rows that do the same task, in every column with values for clips.

    With six clips the smallest p that there can be is 0.03, with five 0.06: fewer show no difference,
    however large it is.

    Args:
        rows: of a table.
        columns: of a table.
        tasks: name of a row → its task; rows without one are compared with none.
    """
    pairs = [
        (first, second)
        for first, second in combinations(rows, 2)
        if first.name in tasks and tasks[first.name] == tasks.get(second.name)
    ]
    found: list[Comparison] = []
    for column in columns:
        measured: list[tuple[str, str, NDArray[np.float64]]] = []
        for first, second in pairs:
            values = _differences(first.cells[column.name].per_clip, second.cells[column.name].per_clip)
            if len(values) > 1:
                measured.append((first.name, second.name, values))
        raw = [signed_rank_p(values) for *_, values in measured]
        for (a, b, values), p, corrected in zip(measured, raw, holm(raw), strict=True):
            found.append(Comparison(column.name, a, b, len(values), float(values.mean()), p, corrected))
    return found


def _differences(first: Mapping[str, float], second: Mapping[str, float]) -> NDArray[np.float64]:
    both = [(first[clip], second[clip]) for clip in first if clip in second]
    pairs = [(a, b) for a, b in both if not (math.isnan(a) or math.isnan(b))]
    return np.array([a - b for a, b in pairs], np.float64)


def signed_rank_p(differences: NDArray[np.floating]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (1945), zeros left out."""
    return 1.0 if not differences.any() else float(wilcoxon(differences).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the i-th smallest p times the number of those not yet passed."""
    corrected = [0.0] * len(p)
    largest = 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, (len(p) - rank) * p[place])
        corrected[place] = min(1.0, largest)
    return corrected


def best_and_tied(
    values: Mapping[str, float], higher_is_better: bool, comparisons: Sequence[Comparison]
) -> tuple[str, set[str]]:
    """The row with the best value, and those whose difference to it may be chance.

    Args:
        values: row → value, of one column and one task.
        higher_is_better: of the column.
        comparisons: of that column.
    """
    best = (max if higher_is_better else min)(values, key=lambda name: values[name])
    tied = {
        one.second if one.first == best else one.first
        for one in comparisons
        if best in (one.first, one.second) and not one.differs
    }
    return best, tied & values.keys()
