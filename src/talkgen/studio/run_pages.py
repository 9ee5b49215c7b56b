"""The tab of runs: what there is, and a page about each."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from talkgen.errors import FileError
from talkgen.run_overview import RunOverview, find_overviews
from talkgen.run_report import report_body


def list_runs(runs: Path) -> list[dict[str, Any]]:
    """Every run at a glance, newest first; none where there is no folder of runs."""
    return [
        {
            "name": run.name,
            "experiment": run.experiment,
            "state": run.state,
            "step": run.step,
            "steps": run.steps,
            "best": None if run.best is None else {"key": run.best[0], "value": run.best[1]},
            "changed": run.changed,
        }
        for run in _overviews(runs)
    ]


def run_page(runs: Path, name: str) -> str | None:
    """Curves, samples, config and the resume command of a run as HTML; None where there is no such run."""
    run = _named(runs, name)
    return None if run is None else report_body(run, f"/media/runs/{quote(name)}/samples/")


def sample_file(runs: Path, name: str, file: str) -> Path | None:
    """A sample of a run."""
    run = _named(runs, name)
    if run is None or not run.folder.samples.is_dir():
        return None
    return next((sample for sample in run.folder.samples.iterdir() if sample.name == file), None)


def _named(runs: Path, name: str) -> RunOverview | None:
    """A run is found among those that there are, so that no name leads elsewhere."""
    return next((run for run in _overviews(runs) if run.name == name), None)


def _overviews(runs: Path) -> list[RunOverview]:
    try:
        return find_overviews(runs)
    except FileError:
        return []
