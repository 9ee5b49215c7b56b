"""Curves of scores over levels of a change, drawn without a plotting library."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen.data.files import write_atomically

WIDTH, HEIGHT = 300, 200
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 58, 14, 34, 34
COLOURS = ((31, 119, 180), (214, 100, 20), (44, 140, 60), (150, 60, 160), (120, 120, 120))
INK, FAINT = (30, 30, 30), (215, 215, 215)


@dataclass(frozen=True)
class Curve:
    """One point: of a family of changes, at a level, by a method; column → value (None: none).

    ``label`` stands in the place of the level where that is no number; such points are not joined.
    """

    family: str
    level: float
    method: str
    values: Mapping[str, float | None]
    label: str | None = None


def draw_curves(points: Sequence[Curve], columns: Sequence[str], file: Path) -> None:
    """A grid of small plots: a row a family, a column a metric, a colour a method; PNG.

    Points of the family ``none`` are the dashed line in every plot of their metric. Columns without any value
    are left out.
    """
    columns = [column for column in columns if any(p.values.get(column) is not None for p in points)]
    families = [name for name in dict.fromkeys(point.family for point in points) if name != "none"]
    methods = list(dict.fromkeys(point.method for point in points))
    rows = []
    for family in families if columns else []:
        plots = [_plot(points, family, column, methods) for column in columns]
        rows.append(np.concatenate(plots, 1))
    if not rows:
        return
    rows.append(_legend(methods, WIDTH * len(columns)))
    picture = np.concatenate(rows, 0)
    write_atomically(file, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def _plot(points: Sequence[Curve], family: str, column: str, methods: Sequence[str]) -> NDArray[np.uint8]:
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    _write(picture, f"{family}: {column}", (8, 18), WIDTH - 16)
    own = [p for p in points if p.family == family and p.values.get(column) is not None]
    plain = [p for p in points if p.family == "none" and p.values.get(column) is not None]
    if not own:
        return picture
    levels = sorted({point.level for point in own})
    values = [float(p.values[column] or 0.0) for p in (*own, *plain)]
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - pad, high + pad
    right, bottom = WIDTH - MARGIN_RIGHT, HEIGHT - MARGIN_BOTTOM

    def at(level: float, value: float) -> tuple[int, int]:
        across = (level - levels[0]) / (levels[-1] - levels[0]) if len(levels) > 1 else 0.5
        x = MARGIN_LEFT + 8 + across * (right - MARGIN_LEFT - 16)
        return round(x), round(bottom - (value - low) / (high - low) * (bottom - MARGIN_TOP))

    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        _, y = at(levels[0], value)
        cv2.line(picture, (MARGIN_LEFT, y), (right, y), FAINT, 1)
        _write(picture, f"{value:.3g}", (6, y + 4), MARGIN_LEFT - 10)
    labels = {point.level: point.label for point in own}
    for level in levels:
        x = at(level, low)[0]
        if (label := labels[level]) is None:
            _write(picture, f"{level:g}", (x - 8, HEIGHT - 14), 40)
        else:
            _write(picture, label, (min(max(x - 30, 2), WIDTH - 84), HEIGHT - 14), 80)
    for number, method in enumerate(methods):
        colour = COLOURS[number % len(COLOURS)]
        for point in plain:
            if point.method == method:
                y = at(levels[0], float(point.values[column] or 0.0))[1]
                for x in range(MARGIN_LEFT, right, 10):
                    cv2.line(picture, (x, y), (x + 4, y), colour, 1)
        mine = sorted((p for p in own if p.method == method), key=lambda p: p.level)
        places = [at(p.level, float(p.values[column] or 0.0)) for p in mine]
        joined = all(point.label is None for point in mine)
        for start, end in itertools.pairwise(places if joined else []):
            cv2.line(picture, start, end, colour, 2, cv2.LINE_AA)
        for place in places:
            cv2.circle(picture, place, 4, colour, -1, cv2.LINE_AA)
    return picture


def _legend(methods: Sequence[str], width: int) -> NDArray[np.uint8]:
    strip = np.full((30, width, 3), 255, np.uint8)
    step = width // max(len(methods), 1)
    for number, method in enumerate(methods):
        cv2.circle(strip, (number * step + 12, 15), 5, COLOURS[number % len(COLOURS)], -1, cv2.LINE_AA)
        _write(strip, f"{method} (dashed: unchanged)", (number * step + 24, 19), step - 30)
    return strip


def _write(picture: NDArray[np.uint8], text: str, at: tuple[int, int], width: int) -> None:
    """Text of OpenCV's font, which has ASCII alone, made to fit."""
    plain = text.replace("°", " deg").encode("ascii", "replace").decode()
    (needed, _), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.4, width / max(needed, 1))
    cv2.putText(picture, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
