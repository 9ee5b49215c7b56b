"""Rows × metrics, as markdown, LaTeX, csv and json. Nothing is computed here but intervals."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol as Interface

from torch import Tensor

from talkgen.metrics.grid import markdown_grid
from talkgen.metrics.intervals import Interval, bootstrap_interval
from talkgen.metrics.protocol import Protocol
from talkgen.metrics.published import PublishedTable
from talkgen.metrics.significance import Comparison, best_and_tied

NOT_AVAILABLE = "n/a"
"""A number that could be had: a note below the table says how."""
NOT_APPLICABLE = "–"
"""A number that this row cannot have, such as the codes of ground truth."""


class TableMetric(Interface):
    """What a metric must offer to become a column; every class of this package does."""

    @property
    def column(self) -> str:
        """Name with the variant id in brackets."""

    @property
    def digits(self) -> int:
        """Shown after the point."""

    @property
    def higher_is_better(self) -> bool | None:
        """Which way the arrow points; None for neither."""

    @property
    def has_interval(self) -> bool:
        """Whether an interval over clips means anything."""

    def per_clip(self) -> dict[int, float]:
        """Clip number → value."""

    def compute(self) -> Tensor:
        """Value over all clips."""


@dataclass(frozen=True)
class Column:
    """A metric's name with its variant id, how many digits are shown, and which way is better."""

    name: str
    digits: int
    higher_is_better: bool | None

    @property
    def heading(self) -> str:
        """The name with an arrow."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return f"{self.name}{arrow}"


@dataclass(frozen=True)
class Cell:
    """One number. ``value`` is None where there is none; ``absent`` then says why, as it is printed.

    ``per_clip`` maps clip ids to their values; its NaN are clips in which nothing could be measured.
    """

    value: float | None
    interval: Interval | None = None
    per_clip: Mapping[str, float] = field(default_factory=dict)
    absent: str = NOT_APPLICABLE

    def text(self, digits: int) -> str:
        """``24.31 [23.90, 24.77]``; an interval without width, as that of ground truth, is not shown."""
        if self.value is None:
            return self.absent
        value = f"{self.value:.{digits}f}"
        if self.interval is None:
            return value
        low, high = f"{self.interval.low:.{digits}f}", f"{self.interval.high:.{digits}f}"
        return value if low == high else f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Row:
    """Something that was scored: its name, the number of clips, and column name → cell."""

    name: str
    clips: int
    cells: Mapping[str, Cell]


def measured_cell(metric: TableMetric, clips: Sequence[str], seed: int = 0) -> Cell:
    """The cell of a metric that has seen its footage.

    Args:
        metric: after its updates.
        clips: ids of the clips, in the order of their numbers.
        seed: of the bootstrap.
    """
    with warnings.catch_warnings():
        # A metric that no piece was fit for has seen nothing, and its cell says so.
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
        value = float(metric.compute())
    if math.isnan(value):
        return Cell(None)
    per_clip = {clips[number]: score for number, score in sorted(metric.per_clip().items())}
    interval = bootstrap_interval(list(per_clip.values()), seed=seed) if metric.has_interval else None
    return Cell(value, interval, per_clip)


@dataclass(frozen=True)
class Table:
    """Scores, with the conditions under which they were made.

    Args:
        title: printed above the table.
        columns: in the order in which they are shown.
        rows: every row has a cell for every column.
        protocol: see :class:`talkgen.metrics.protocol.Protocol`.
        notes: sentences below the table, such as what to fetch for the columns that are ``n/a``.
        comparisons: of rows that do the same, paired over clips.
        published: what papers say, in blocks of their own below the table.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    protocol: Protocol
    notes: Sequence[str] = ()
    comparisons: Sequence[Comparison] = ()
    published: Sequence[PublishedTable] = ()

    @cached_property
    def marks(self) -> dict[tuple[str, str], str]:
        """(row, column) → ``"best"`` of the rows it is compared with, or ``"tied"``: chance may be why it is
        not.
        """
        found: dict[tuple[str, str], str] = {}
        for column in self.columns:
            if column.higher_is_better is None:
                continue
            pairs = [one for one in self.comparisons if one.column == column.name]
            for group in _connected(pairs):
                values = {r.name: r.cells[column.name].value for r in self.rows if r.name in group}
                known = {name: value for name, value in values.items() if value is not None}
                if len(set(known.values())) > 1:
                    best, tied = best_and_tied(known, column.higher_is_better, pairs)
                    found |= {(name, column.name): "tied" for name in tied}
                    found[best, column.name] = "best"
        return found

    def text(self, row: Row, column: Column) -> str:
        """What a cell shows."""
        return row.cells[column.name].text(column.digits)

    def every_note(self) -> list[str]:
        """The notes, and what the marks mean where there are any."""
        if not self.marks:
            return list(self.notes)
        pairs = len({(one.first, one.second) for one in self.comparisons})
        few = max(one.clips for one in self.comparisons) < 6
        return [
            *self.notes,
            f"Rows that do the same are compared over the clips that both have (Wilcoxon's signed-rank test, "
            f"Holm's correction over {pairs} pairs a column, significance.csv). Bold: the best. ≈: not told "
            "from the best at 5 %" + ("; fewer than six clips cannot tell." if few else "."),
        ]

    def markdown(self, upright: bool = False) -> str:
        """Aligned for the eye; ``upright`` is for a terminal: a line a metric, without what papers say."""
        forms = {"best": "**{}**", "tied": "{} ≈", "": "{}"}
        lines = [["", "n", *(column.heading for column in self.columns)]]
        for row in self.rows:
            texts = [
                forms[self.marks.get((row.name, c.name), "")].format(self.text(row, c)) for c in self.columns
            ]
            lines.append([row.name, str(row.clips), *texts])
        if upright:
            lines = [list(line) for line in zip(*lines, strict=True)]
        below = [f"_Protocol: {self.protocol.line()}_", *self.every_note()]
        blocks = [f"### {self.title}", "", *markdown_grid(lines), "", "\n\n".join(below), ""]
        for block in () if upright else self.published:
            blocks.append(block.markdown())
        return "\n".join(blocks)

    def latex(self) -> str:
        """A ``tabular`` with booktabs rules; intervals in small type."""
        lines = []
        for row in self.rows:
            texts = []
            for column in self.columns:
                number, _, interval = self.text(row, column).partition(" ")
                number = number.replace("–", "--")
                mark = self.marks.get((row.name, column.name), "")
                number = {"best": r"\textbf{%s}", "tied": r"\underline{%s}", "": "%s"}[mark] % number
                texts.append(f"{number} {{\\scriptsize {interval}}}" if interval else number)
            lines.append(" & ".join([_latex(row.name), str(row.clips), *texts]) + r" \\")
        arrows = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}
        headings = [f"{_latex(c.name)}{arrows[c.higher_is_better]}" for c in self.columns]
        blocks = [
            *(f"% {line}" for line in (self.title, self.protocol.line(), *self.every_note())),
            *_tabular(["", "$n$", *headings], lines),
        ]
        for block in self.published:
            blocks += [f"% As published: {block.title}", f"% {block.source}"]
            cells = [" & ".join(map(_latex, [name, *values])) + r" \\" for name, values in block.rows.items()]
            blocks += _tabular(["", *map(_latex, block.columns)], cells)
        return "\n".join(blocks)

    def csv(self) -> str:
        """One line a row: name, n, and for each column its value and the ends of its interval."""
        heads = [name for c in self.columns for name in (c.name, f"{c.name} low", f"{c.name} high")]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["row", "n", *heads])
        for row in self.rows:
            line: list[object] = [row.name, row.clips]
            for column in self.columns:
                cell = row.cells[column.name]
                ends = (cell.interval.low, cell.interval.high) if cell.interval else ("", "")
                line += [cell.absent if cell.value is None else cell.value, *ends]
            writer.writerow(line)
        return out.getvalue()

    def per_clip_csv(self) -> str:
        """One line a row and clip; a number that a clip does not have is left empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["row", "clip", *(column.name for column in self.columns)])
        for row in self.rows:
            clips = dict.fromkeys(clip for cell in row.cells.values() for clip in cell.per_clip)
            for clip in clips:
                values = [row.cells[column.name].per_clip.get(clip, math.nan) for column in self.columns]
                writer.writerow([row.name, clip, *("" if math.isnan(v) else v for v in values)])
        return out.getvalue()

    def significance_csv(self) -> str:
        """One line for each two rows that are compared in a column."""
        out = io.StringIO()
        names = ("column", "first", "second", "clips", "difference", "p", "p_holm", "differs")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for one in self.comparisons:
            writer.writerow([getattr(one, name) for name in names])
        return out.getvalue()

    def json(self) -> str:
        """Everything: protocol, notes, values, intervals, values of each clip (null where undefined)."""
        rows = []
        for row in self.rows:
            cells = {}
            for column in self.columns:
                cell = row.cells[column.name]
                cells[column.name] = {
                    "value": cell.value,
                    "interval": [cell.interval.low, cell.interval.high] if cell.interval else None,
                    "per_clip": {k: None if math.isnan(v) else v for k, v in cell.per_clip.items()},
                } | ({"absent": cell.absent} if cell.value is None else {})
            rows.append({"name": row.name, "n": row.clips, "cells": cells})
        content = {
            "title": self.title,
            "protocol": {
                "line": self.protocol.line(),
                **{name: _plain(value) for name, value in vars(self.protocol).items()},
            },
            "notes": list(self.notes),
            "columns": [vars(column) for column in self.columns],
            "rows": rows,
            "comparisons": [vars(one) | {"differs": one.differs} for one in self.comparisons],
            "published": [
                {**vars(block), "rows": {name: list(values) for name, values in block.rows.items()}}
                for block in self.published
            ],
        }
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _tabular(headings: Sequence[str], lines: Sequence[str]) -> list[str]:
    """A LaTeX table with booktabs rules."""
    return [
        r"\begin{tabular}{l" + "r" * (len(headings) - 1) + "}",
        r"\toprule",
        " & ".join(headings) + r" \\",
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]


def _connected(pairs: Sequence[Comparison]) -> list[set[str]]:
    """Rows that are compared with each other."""
    groups: list[set[str]] = []
    for one in pairs:
        names = {one.first, one.second}
        touched = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names] + [names.union(*touched)]
    return groups


def _plain(value: object) -> object:
    """Sequences and mappings as json knows them."""
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def _latex(text: str) -> str:
    """Characters that LaTeX reads as commands, escaped."""
    for character in "%_#&$":
        text = text.replace(character, f"\\{character}")
    return text
