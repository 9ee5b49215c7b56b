"""The tab of runs: what there is, and a page about each."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from talkgen.configuration import RunFolder
from talkgen.errors import FileError
from talkgen.run_overview import RunOverview, find_overviews, overview
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
    folder = _folder(runs, name)
    if folder is None:
        return None
    return report_body(overview(folder, name), f"/media/runs/{quote(name)}/samples/")


def sample_file(runs: Path, name: str, file: str) -> Path | None:
    """A sample of a run."""
    folder = _folder(runs, name)
    if folder is None or not folder.samples.is_dir():
        return None
    return next((sample for sample in folder.samples.iterdir() if sample.name == file), None)


def _folder(runs: Path, name: str) -> RunFolder | None:
    """The run of a name that ``find_overviews`` gives; no name leads out of the folder of runs."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":
        return None
    for place in (runs.joinpath(*parts), *([runs] if name == runs.name else [])):
        folder = RunFolder(place)
        if folder.facts.is_file() and folder.config.is_file():
            return folder
    return None


def _overviews(runs: Path) -> list[RunOverview]:
    try:
        return find_overviews(runs)
    except FileError:
        return []
