"""Ablations: variants × seeds → runs → a table with the spread over seeds.

A method is trained in stages. A variant changes some of them; only those are trained, the others are linked
from the variant ``base``, and made there first where they are needed. The same command goes on where it was
stopped: what is trained and scored is left as it is. Tables are written after every variant, so that they
can be read while others are trained. What the paper says stands in a block of its own below, never beside
what was measured.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError
from talkgen.metrics.grid import markdown_grid
from talkgen.metrics.published import read_published

CHECKPOINT = "checkpoints/last.ckpt"
BASE = "base"
TABLE = "table"

Cells = Mapping[str, float | None]
"""Column → value of one run."""


@dataclass(frozen=True)
class Variant:
    """What is changed.

    Attributes:
        words: its name in the table.
        overrides: stage → overrides; these stages are trained for it, and all of them where the method's
            first stage is among them.
        row: which row of its scores stands for it, where there are several.
        of: variant whose runs are used (for another row of the same runs).
        scoring: overrides of its scoring.
        without: stages that it lacks.
    """

    words: str
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    row: str = ""
    of: str | None = None
    scoring: Sequence[str] = ()
    without: Collection[str] = ()


@dataclass(frozen=True)
class Method:
    """What is taken apart.

    Attributes:
        stages: in the order of training; each is an experiment.
        seeded: those that every seed trains anew. The others are those of seed 0.
        variants: by name; ``base`` is the one that the others change.
        score: gives the cells of a run.
        keys: stage → the only overrides for all stages that it takes, where it does not take all.
        results: stage → the file that says that it is made, where that is no checkpoint.
    """

    stages: Sequence[str]
    seeded: Collection[str]
    variants: Mapping[str, Variant]
    score: Callable[[Ablation, Variant, Path], Cells]
    keys: Mapping[str, Collection[str]] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """Where the runs lie, and how they are made.

    Attributes:
        method: what is trained.
        runs: folder of all runs.
        name: folder of this ablation in it.
        base: trained method whose stages are taken for ``base`` at seed 0; None trains them.
        overrides: for every training stage.
        of_stage: stage → overrides for it alone.
        scoring: overrides of the evaluation.
    """

    method: Method
    runs: Path
    name: str
    base: Path | None = None
    overrides: Sequence[str] = ()
    of_stage: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scoring: Sequence[str] = ()
    _made: set[Path] = field(default_factory=set, compare=False, repr=False)

    def folder(self, variant: str, seed: int) -> Path:
        """Of the stages of one run."""
        return self.runs / self.name / (self.method.variants[variant].of or variant) / f"seed-{seed}"

    def make(self, variant: str, seed: int, last: str | None = None) -> Path:
        """Train the stages that a variant changes, up to one (or all), and link the others; their folder."""
        variant = self.method.variants[variant].of or variant
        folder = self.folder(variant, seed)
        folder.mkdir(parents=True, exist_ok=True)
        own = self._own(variant, seed)
        for stage in self.method.stages:
            place = folder / stage
            if place not in self._made and stage not in self.method.variants[variant].without:
                if stage in own:
                    self._train(variant, seed, stage)
                else:
                    self._link(place, self._shared(variant, seed, stage))
                self._made.add(place)
            if stage == last:
                break
        return folder

    def _own(self, variant: str, seed: int) -> list[str]:
        """Stages that are trained for a run."""
        stages, changed = self.method.stages, self.method.variants[variant].overrides
        if variant == BASE and seed == 0 and self.base is not None:
            return []
        if variant == BASE or stages[0] in changed:
            return [stage for stage in stages if seed == 0 or stage in self.method.seeded]
        return [stage for stage in stages if stage in changed]

    def _shared(self, variant: str, seed: int, stage: str) -> Path:
        """Where a stage that a run does not train comes from; it is made there first."""
        if variant == BASE and seed == 0:
            assert self.base is not None  # else it would be trained
            return self.base / stage
        if stage in self.method.seeded:  # with another seed it is another one
            return self.make(BASE, seed, stage) / stage
        # a variant that changes the first stage has its own at seed 0
        first = variant if self.method.stages[0] in self.method.variants[variant].overrides else BASE
        return self.make(first, 0, stage) / stage

    def _train(self, variant: str, seed: int, stage: str) -> None:
        keys = self.method.keys.get(stage)
        talkgen(
            "train",
            f"experiment={stage}",
            f"name={self.name}/{variant}/seed-{seed}/{stage}",
            f"paths.runs={self.runs}",
            f"seed={seed}",
            *(one for one in self.overrides if keys is None or one.split("=")[0] in keys),
            *self.of_stage.get(stage, ()),
            *self.method.variants[variant].overrides.get(stage, ()),
        )

    def _link(self, place: Path, target: Path) -> None:
        """A relative link to a stage, made anew where it points elsewhere.

        Raises:
            TalkgenError: something else lies there, or the target is not trained.
        """
        if not (target / self.method.results.get(place.name, CHECKPOINT)).is_file():
            raise TalkgenError(f"{target} is not trained; without it {place.parent} cannot be made")
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            raise TalkgenError(
                f"{place} was trained, but should be shared with {target}; delete it or move it"
            )
        place.symlink_to(os.path.relpath(target.resolve(), place.parent.resolve()), target_is_directory=True)

    def scores(self, folder: Path, file: Path, settings: Sequence[str], make: Callable[[], None]) -> Any:
        """Content of a JSON file of scores, made where it is missing, older than a stage of its run, or made
        with other settings."""
        record = file.with_name(f"{file.stem}_settings.json")
        trained = [folder / stage / CHECKPOINT for stage in self.method.stages]
        times = [checkpoint.stat().st_mtime for checkpoint in trained if checkpoint.is_file()]
        known = file.is_file() and record.is_file() and json.loads(record.read_text()) == list(settings)
        if not known or file.stat().st_mtime < max(times, default=0):
            make()
            write_atomically(record, json.dumps(list(settings)).encode())
        return json.loads(file.read_text(encoding="utf-8"))

    def evaluate(self, folder: Path, *overrides: str) -> dict[str, dict[str, float | None]]:
        """Row name → cells of the table of a run by ``talkgen evaluate``.

        Columns bear an arrow where one end is better.
        """
        settings = [*self.scoring, *overrides]
        run = f"run={folder.relative_to(self.runs)}", f"paths.runs={self.runs}"
        table = self.scores(
            folder,
            folder / "evaluation" / "table.json",
            settings,
            lambda: talkgen("evaluate", *run, *settings),
        )
        ends = {True: " ↑", False: " ↓", None: ""}
        heads = {one["name"]: one["name"] + ends[one["higher_is_better"]] for one in table["columns"]}
        return {
            row["name"]: {heads[name]: cell["value"] for name, cell in row["cells"].items()}
            for row in table["rows"]
        }

    def tables(self, sets: Mapping[str, Sequence[str]], seeds: int, published: Sequence[str] = ()) -> str:
        """Train, score, write.

        Args:
            sets: file name → variants of its table.
            seeds: how often each variant is trained.
            published: names of ``configs/published`` whose blocks stand below.

        Returns:
            The tables as markdown, each under its name; one that is just a table has none.
        """
        blocks = [read_published(name).markdown() for name in published]
        texts: dict[str, str] = {}
        for name, variants in sets.items():
            found: dict[str, list[Cells]] = {}
            for variant in variants:
                scores = found.setdefault(self.method.variants[variant].words, [])
                for seed in range(seeds):
                    folder = self.make(variant, seed)
                    scores.append(self.method.score(self, self.method.variants[variant], folder))
                texts[name] = ("" if name == TABLE else f"### {name}\n\n") + markdown(found)
                file = self.runs / self.name / name
                write_atomically(f"{file}.md", "\n".join([texts[name], *blocks]).encode())
                write_atomically(f"{file}.csv", as_csv(found).encode())
        return "\n".join([*texts.values(), *blocks])


def talkgen(*arguments: str) -> None:
    """Run a command of talkgen.

    Raises:
        TalkgenError: it failed; what it said is on the screen.
    """
    print(f"\n$ talkgen {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "talkgen.cli", *arguments], check=False).returncode
    if code:
        raise TalkgenError(f"stopped (exit code {code}); the same command goes on from there")


# Tables -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and the deviation of a sample (n − 1), which one seed does not have."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


def spreads(scores: Mapping[str, Sequence[Cells]]) -> dict[str, dict[str, Spread]]:
    """Column → words of a variant → what its seeds have; seeds without a value do not count.

    Args:
        scores: words of a variant → the cells of each seed.
    """
    columns = dict.fromkeys(column for found in scores.values() for cells in found for column in cells)
    table: dict[str, dict[str, Spread]] = {column: {} for column in columns}
    for words, found in scores.items():
        for column in columns:
            values = [value for cells in found if (value := cells.get(column)) is not None]
            if values:
                deviation = statistics.stdev(values) if len(values) > 1 else None
                table[column][words] = Spread(statistics.fmean(values), deviation)
    return table


def markdown(scores: Mapping[str, Sequence[Cells]]) -> str:
    """A line a metric, a column a variant: mean ± standard deviation over seeds."""
    lines = [["", *scores], ["seeds", *(str(len(found)) for found in scores.values())]]
    for column, row in spreads(scores).items():
        lines.append([column, *(str(row.get(words, "–")) for words in scores)])
    return "\n".join([*markdown_grid(lines), ""])


def as_csv(scores: Mapping[str, Sequence[Cells]]) -> str:
    """One line a variant: name, seeds, and mean and standard deviation of each column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    table = spreads(scores)
    writer.writerow(["variant", "seeds", *(head for column in table for head in (column, f"{column} std"))])
    for words, found in scores.items():
        line: list[object] = [words, len(found)]
        for row in table.values():
            spread = row.get(words)
            line += ["", ""] if spread is None else [spread.mean, spread.deviation]
        writer.writerow(line)
    return out.getvalue()


# Command line -----------------------------------------------------------------------------------------------


def argument_parser(doc: str | None, epilog: str, name: str, published: str) -> argparse.ArgumentParser:
    """What the commands of all methods take.

    Args:
        doc: of the script.
        epilog: what there is to choose from.
        name: default folder of the ablation.
        published: default name of the paper's block.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n\n")[0], epilog=epilog)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every training stage, or STAGE:KEY=VALUE")
    parser.add_argument("--base", type=Path, help="trained method whose stages are those of base at seed 0")
    parser.add_argument("--name", default=name, help="folder under the runs; default: %(default)s")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument(
        "--published", default=published, help="what papers say, below; '' for none; default: %(default)s"
    )
    return parser


def chosen(parser: argparse.ArgumentParser, given: str, known: Mapping[str, object], what: str) -> list[str]:
    """The names in a list with commas; a usage error for one that is not known."""
    names = list(dict.fromkeys(given.split(",")))
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no {what} {unknown[0]!r}; there are {', '.join(known)}")
    return names


def run(
    method: Method,
    given: argparse.Namespace,
    sets: Mapping[str, Sequence[str]],
    seeds: int,
    scoring: Sequence[str] = (),
) -> int:
    """Make the tables; 0, or 1 after what can be put right.

    Args:
        method: what is taken apart.
        given: by ``argument_parser``.
        sets: file name → variants.
        seeds: how often each variant is trained.
        scoring: overrides of the evaluation.
    """
    everywhere: list[str] = []
    of_stage: dict[str, list[str]] = {stage: [] for stage in method.stages}
    for override in given.overrides:
        stage, _, rest = override.partition(":")
        if stage in of_stage:
            of_stage[stage].append(rest)
        else:
            everywhere.append(override)
    ablation = Ablation(method, given.runs, given.name, given.base, everywhere, of_stage, scoring)
    try:
        text = ablation.tables(sets, seeds, [name for name in given.published.split(",") if name])
    except TalkgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    files = ", ".join(f"{name}.md, {name}.csv" for name in sets)
    print(f"\n{text}\nwritten to {given.runs / given.name}: {files}")
    return 0


def positive(text: str) -> int:
    """A whole number from 1 on, of an argument."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError("is at least 1")
    return int(text)
