"""What has been trained, how far it is, and how it goes on."""

from __future__ import annotations

import csv
import fcntl
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talkgen.configuration import RunFolder
from talkgen.errors import FileError

Curves = dict[str, list[tuple[int, float]]]
"""Key of a logged number → (step, value), in order."""


@dataclass(frozen=True)
class RunOverview:
    """A run at a glance.

    Attributes:
        folder: the run.
        name: its path below the folder that was asked about.
        experiment: what it trains.
        state: ``finished``, ``training`` (a process holds its lock) or ``stopped``.
        step: batches that were logged.
        steps: batches that it was asked for; None where its config does not say.
        best: what its best checkpoint is chosen by, and its value; None: there is none yet.
        last: the last value of every validation number.
        command: what begins it anew, or goes on with it.
        changed: when it last wrote something, seconds since 1970.
    """

    folder: RunFolder
    name: str
    experiment: str
    state: str
    step: int
    steps: int | None
    best: tuple[str, float] | None
    last: dict[str, float]
    command: str
    changed: float


def find_overviews(runs: str | Path) -> list[RunOverview]:
    """Every run below a folder (or the run that the folder is), newest first.

    Raises:
        FileError: there is no such folder, or no run in it.
    """
    place = Path(runs)
    if not place.is_dir():
        raise FileError(runs, "no such folder; give the folder of runs, such as runs")
    folders = sorted(
        {file.parent for file in place.rglob("run.json") if (file.parent / "config.yaml").is_file()}
    )
    if not folders:
        raise FileError(runs, "holds no run; begin one: python train.py experiment=…")
    found = [overview(RunFolder(folder), _name(folder, place)) for folder in folders]
    return sorted(found, key=lambda run: run.changed, reverse=True)


def _name(folder: Path, below: Path) -> str:
    return folder.name if folder == below else folder.relative_to(below).as_posix()


def overview(folder: RunFolder, name: str) -> RunOverview:
    """One run at a glance."""
    from omegaconf import OmegaConf

    facts = _json(folder.facts)
    curves = read_curves(folder)
    step = max((points[-1][0] + 1 for points in curves.values() if points), default=0)
    config = OmegaConf.load(folder.config)
    steps = OmegaConf.select(config, "steps")
    finished = steps is not None and int(facts.get("finished_batches") or 0) >= int(steps)
    state = "finished" if finished else "training" if _is_locked(folder) else "stopped"
    held = _json(folder.checkpoints / "best.json")
    best = (str(held["monitor"]), float(held["value"])) if {"monitor", "value"} <= held.keys() else None
    last = {key: points[-1][1] for key, points in curves.items() if key.startswith("val/") and points}
    starts = facts.get("starts") or [{}]
    arguments = [str(argument) for argument in starts[-1].get("command") or []]
    written = [file.stat().st_mtime for file in (folder.facts, folder.metrics, folder.last) if file.is_file()]
    return RunOverview(
        folder,
        name,
        str(facts.get("experiment", "")),
        state,
        step,
        None if steps is None else int(steps),
        best,
        last,
        shlex.join(["talkgen", "train", *arguments]),
        max(written),
    )


def read_curves(folder: RunFolder) -> Curves:
    """The numbers of ``metrics.csv``; what is empty or no finite number is left out."""
    curves: Curves = {}
    if not folder.metrics.is_file():
        return curves
    with folder.metrics.open(newline="") as stream:
        for row in csv.DictReader(stream):
            step = _number(row.get("step"))
            for key, text in row.items():
                value = _number(text)
                if step is not None and value is not None and key not in (None, "step", "epoch"):
                    curves.setdefault(key, []).append((int(step), value))
    return curves


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or was being written."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_locked(folder: RunFolder) -> bool:
    """Whether a process is training in the folder."""
    file = folder.path / ".lock"
    if not file.is_file():
        return False
    with file.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def listing(runs: Sequence[RunOverview]) -> str:
    """A table of runs, and under it the commands that go on with those that are not finished."""
    rows = [("run", "experiment", "state", "batches", "best", "last validation")]
    for run in runs:
        best = f"{run.best[0]} {run.best[1]:.4g}" if run.best else "–"
        last = ", ".join(
            f"{key.removeprefix('val/')} {value:.4g}" for key, value in list(run.last.items())[:3]
        )
        batches = f"{run.step}/{run.steps}" if run.steps else str(run.step)
        rows.append((run.name, run.experiment, run.state, batches, best, last or "–"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    stopped = [run for run in runs if run.state == "stopped"]
    if stopped:
        lines += ["", "to go on:", *(f"  {run.command}" for run in stopped)]
    return "\n".join(lines)
