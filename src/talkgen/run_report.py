"""``talkgen runs``: a list, and pages that need no network and no server: curves, samples, settings.

Curves are drawn as SVG inside the page; samples are the files of the run folder, which the page lies in.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from talkgen.configuration import RunFolder
from talkgen.data.files import write_atomically
from talkgen.run_overview import Curves, RunOverview, find_overviews, listing, read_curves

WIDTH, HEIGHT = 300, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 8, 20
_COLOURS = {"train": "#5b7db1", "val": "#d4732a"}
_SAMPLE = re.compile(r"step-(\d+)(?:-(.+))?$")
_VIDEOS, _PICTURES = (".mp4", ".webm"), (".png", ".jpg")
_MOST_STEPS = 8  # of samples that are shown
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 68rem; margin: 0 auto; padding: 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: .8rem; }
figure { margin: 0; } figcaption { font-size: .85rem; }
svg { width: 100%; height: auto; } svg text { font-size: 10px; fill: currentColor; opacity: .75; }
.samples { display: flex; gap: .6rem; overflow-x: auto; } .samples video, .samples img { height: 180px; }
table { border-collapse: collapse; } td { padding: .1rem .8rem .1rem 0; vertical-align: top; }
pre { overflow-x: auto; font-size: .8rem; } .train { color: #5b7db1; } .val { color: #d4732a; }
"""


def write_report(run: RunOverview) -> Path:
    """Write ``report.html`` into the run's folder.

    Returns:
        The page.
    """
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(run.name)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{escape(run.name)}</h1>\n{report_body(run)}"
        "\n</body></html>\n"
    )
    file = run.folder.path / "report.html"
    write_atomically(file, page.encode())
    return file


def report_body(run: RunOverview, samples: str = "samples/") -> str:
    """What the page says, as HTML without head and heading.

    Args:
        run: the run.
        samples: what stands before the name of a sample in its address.
    """
    parts = [_facts(run), *_charts(read_curves(run.folder)), *_samples(run.folder, samples)]
    config = escape(run.folder.config.read_text())
    parts.append(f"<h2>Config</h2><details><summary>config.yaml</summary><pre>{config}</pre></details>")
    return "\n".join(parts)


def _facts(run: RunOverview) -> str:
    best = f"{run.best[0]} = {run.best[1]:.5g}" if run.best else "none yet"
    rows = {
        "experiment": run.experiment,
        "state": run.state,
        "batches": f"{run.step} of {run.steps}" if run.steps else str(run.step),
        "best checkpoint": best,
        "last written": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed)),
        "command": run.command,
    }
    cells = "".join(
        f"<tr><td>{key}</td><td><code>{escape(value)}</code></td></tr>" for key, value in rows.items()
    )
    return f"<table>{cells}</table>"


def _charts(curves: Curves) -> list[str]:
    """A section for what is trained and validated, and one for time; training and validation in one chart."""
    groups: dict[str, dict[str, dict[str, list[tuple[int, float]]]]] = defaultdict(dict)
    for key, points in curves.items():
        section, _, name = key.partition("/")
        place = "Numbers" if section in _COLOURS else section.capitalize()
        groups[place].setdefault(name or key, {})[section] = points
    parts = []
    for section in sorted(groups, key=lambda name: (name != "Numbers", name)):
        legend = '<p><span class="train">■</span> training <span class="val">■</span> validation</p>'
        figures = "".join(
            f"<figure>{curve_chart(lines)}<figcaption>{escape(name)}: {_last(lines)}</figcaption></figure>"
            for name, lines in groups[section].items()
        )
        shown = legend if section == "Numbers" else ""
        parts.append(f'<h2>{escape(section)}</h2>{shown}<div class="charts">{figures}</div>')
    return parts


def _last(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    return ", ".join(
        f'<span class="{escape(name)}">{points[-1][1]:.4g}</span>' for name, points in lines.items()
    )


def curve_chart(lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Curves over steps as an SVG element; a single point is a dot."""
    steps = [step for points in lines.values() for step, _ in points]
    values = [value for points in lines.values() for _, value in points]
    first, last, low, high = min(steps), max(steps), min(values), max(values)

    def x(step: float) -> float:
        return _LEFT + (step - first) / max(last - first, 1) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    frame = f'<path d="M{_LEFT} {_TOP}V{HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}" fill="none" stroke="#8888"/>'
    labels = (
        f'<text x="{_LEFT - 4}" y="{y(high) + 4:.1f}" text-anchor="end">{high:.3g}</text>'
        + (f'<text x="{_LEFT - 4}" y="{y(low):.1f}" text-anchor="end">{low:.3g}</text>' if high > low else "")
        + f'<text x="{_LEFT}" y="{HEIGHT - 6}">{first}</text>'
        + f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{last}</text>'
    )
    drawn = ""
    for name, points in lines.items():
        colour = _COLOURS.get(name, "#6a9955")
        if len(points) == 1:
            drawn += f'<circle cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="3" fill="{colour}"/>'
        else:
            path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
            drawn += f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{frame}{labels}{drawn}</svg>'


def _samples(folder: RunFolder, place: str) -> list[str]:
    """Rows of samples, a clip each, from the first step to the last."""
    rows: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for file in sorted(folder.samples.glob("*")) if folder.samples.is_dir() else []:
        found = _SAMPLE.match(file.stem)
        if found and file.suffix.lower() in (*_VIDEOS, *_PICTURES):
            rows[f"{found[2] or 'samples'}"].append((int(found[1]), file))
    parts = ["<h2>Samples</h2>"] if rows else []
    for clip, files in sorted(rows.items()):
        chosen = sorted(files)
        if len(chosen) > _MOST_STEPS:
            places = {round(i * (len(chosen) - 1) / (_MOST_STEPS - 1)) for i in range(_MOST_STEPS)}
            chosen = [chosen[place] for place in sorted(places)]
        shown = "".join(
            f"<figure>{_shown(file, place)}<figcaption>step {step}</figcaption></figure>"
            for step, file in chosen
        )
        parts.append(f'<h3>{escape(clip)}</h3><div class="samples">{shown}</div>')
    return parts


def _shown(file: Path, place: str) -> str:
    source = f"{place}{quote(file.name)}"
    if file.suffix.lower() in _VIDEOS:
        return f'<video src="{source}" controls loop preload="metadata"></video>'
    return f'<a href="{source}"><img src="{source}" alt=""></a>'


def main(arguments: Sequence[str]) -> int:
    """``talkgen runs``.

    Args:
        arguments: a folder, and ``--report``.
    """
    parser = argparse.ArgumentParser(
        prog="talkgen runs", description="List runs, or write a page about each."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("runs"), help="folder of runs (default: runs)"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="write report.html into every run: curves, samples, config; offline",
    )
    given = parser.parse_args(list(arguments))
    runs = find_overviews(given.folder)
    print(listing(runs))
    if given.report:
        print()
        for run in runs:
            print(f"written to {write_report(run)}")
    return 0
