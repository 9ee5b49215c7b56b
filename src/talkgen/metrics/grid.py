"""Tables in markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_grid(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a markdown table, the first of them its heading."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = [
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |"
        for line in lines
    ]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return [aligned[0], rule, *aligned[1:]]
