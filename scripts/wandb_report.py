"""A report at Weights & Biases: a section for each method, a panel for each number of its stages.

    python scripts/wandb_report.py runs --json report.json      # the definition, without network or account
    python scripts/wandb_report.py runs --save --entity NAME    # makes it, after `wandb login`, `wandb sync`

What there is to show is read from the run folders, so that the report has every number that a stage logs.
Runs are found at wandb by their group (the method's folder) and job type (the stage), which
``talkgen.systems.wandb_log`` sets. ``talkgen runs --report`` shows the same offline.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talkgen.data.files import write_atomically
from talkgen.errors import MissingPackage, TalkgenError
from talkgen.run_overview import RunOverview, find_overviews, read_curves

PROJECT = "talkgen"


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        method: group of the runs.
        stage: job type of the runs.
        charts: name of a number → keys that are drawn together (training and validation).
        samples: whether the stage makes sample videos.
        score: what its best checkpoint is chosen by; None: nothing.
    """

    method: str
    stage: str
    charts: dict[str, list[str]]
    samples: bool
    score: str | None


def sections(runs: Sequence[RunOverview]) -> list[Section]:
    """A section a stage, methods in alphabetical order, stages in the order in which they were trained."""
    found: dict[tuple[str, str], Section] = {}
    for run in sorted(runs, key=lambda run: run.changed):
        charts: dict[str, list[str]] = {}
        for key in read_curves(run.folder):
            prefix, _, name = key.partition("/")
            charts.setdefault(name if prefix in ("train", "val") else key, []).append(key)
        path = run.folder.path.resolve()
        held = found.get((path.parent.name, path.name))
        if held is not None:
            charts = held.charts | charts
        found[path.parent.name, path.name] = Section(
            path.parent.name,
            path.name,
            {name: sorted(keys) for name, keys in charts.items()},
            run.folder.samples.is_dir(),
            run.best[0] if run.best else None,
        )
    return sorted(found.values(), key=lambda section: section.method)


def as_report(parts: Sequence[Section], entity: str, project: str) -> Any:
    """The report as an object of wandb's library; nothing is sent.

    Raises:
        MissingPackage: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise MissingPackage("reports need wandb-workspaces: pip install wandb-workspaces") from error
    blocks: list[Any] = [wr.TableOfContents()]
    methods = list(dict.fromkeys(part.method for part in parts))
    for method in methods:
        blocks.append(wr.H1(method))
        own = [part for part in parts if part.method == method]
        for part in own:
            panels: list[Any] = [
                wr.LinePlot(title=name, x="Step", y=list(keys)) for name, keys in part.charts.items()
            ]
            if part.samples:
                panels.append(wr.MediaBrowser(media_keys=["samples"]))
            runs = wr.Runset(
                entity,
                project,
                name=part.stage,
                filters=f"Group = '{method}' and JobType = '{part.stage}'",
            )
            blocks += [wr.H2(part.stage), wr.PanelGrid(runsets=[runs], panels=panels)]
        scores = [part.score for part in own if part.score]
        if scores:
            columns = [
                wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(score)) for score in dict.fromkeys(scores)
            ]
            runs = wr.Runset(entity, project, name=method, filters=f"Group = '{method}'")
            sweep = wr.ParallelCoordinatesPlot(columns=columns, title="sweeps")
            blocks += [wr.H2("Sweeps"), wr.PanelGrid(runsets=[runs], panels=[sweep])]
    return wr.Report(project=project, entity=entity, title=f"{project}: {', '.join(methods)}", blocks=blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the definition, or make the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of runs")
    parser.add_argument("--json", type=Path, help="write the definition here")
    parser.add_argument("--save", action="store_true", help="make the report at wandb")
    parser.add_argument("--entity", default="", help="user or team at wandb")
    parser.add_argument("--project", default=PROJECT)
    given = parser.parse_args(arguments)
    try:
        parts = sections(find_overviews(given.folder))
        for part in parts:
            samples = ", samples" if part.samples else ""
            print(f"{part.method} / {part.stage}: {len(part.charts)} charts{samples}")
        if given.json:
            content = json.dumps([asdict(part) for part in parts], indent=1)
            write_atomically(given.json, content.encode())
        if given.save:
            report = as_report(parts, given.entity, given.project)
            report.save()
            print(report.url)
    except TalkgenError as error:
        print(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
