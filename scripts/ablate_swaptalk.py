#!/usr/bin/env python
"""SwapTalk's ablation table in one command: train each variant, score it, and put them side by side.

    python scripts/ablate_swaptalk.py [--seeds 3] [--variants base,unet,dit] [--base runs/swaptalk-demo] \\
        [--evaluate clips=12] [OVERRIDE …] [STAGE:OVERRIDE …]

Variants differ from ``base`` in some stages; only those are trained, the others are shared (as links). The
same command goes on where it was stopped: finished stages and tables are left as they are. ``--base`` takes
the stages of seed 0 from a method that is trained already. OVERRIDEs go to every training stage
(``size=tiny data.root=…``), ``STAGE:OVERRIDE`` to one. Every seed trains the face-swapping and the lip-sync
module anew; VQGAN, sync expert and identity head are those of seed 0 unless a variant changes them.

Writes ``table.md`` and ``table.csv`` (mean ± standard deviation over seeds) to ``runs/<name>``. The table of
each run lies in its folder, and is made again when it is deleted.
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError

VQGAN, EXPERT, HEAD = "swaptalk_vqgan", "swaptalk_sync_expert", "swaptalk_identity_head"
SWAP, SYNC = "swaptalk_face_swap", "swaptalk_lip_sync"
STAGES = (VQGAN, EXPERT, HEAD, SWAP, SYNC)
MODULES = (SWAP, SYNC)

ROW = "swap, then sync"
"""The row of a variant's table that stands for it."""


@dataclass(frozen=True)
class Variant:
    """What is changed.

    Attributes:
        words: its row's name.
        overrides: stage → overrides; these stages are trained anew, and all stages where VQGAN is among them.
        row: which row of its table is taken.
        of: variant whose runs are used (for another row of the same runs).
        scoring: overrides of its evaluation.
    """

    words: str
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    row: str = ROW
    of: str | None = None
    scoring: Sequence[str] = ()

    def trained(self, seed: int) -> list[str]:
        """Stages that are trained for it, in order."""
        if VQGAN in self.overrides:
            return list(STAGES) if seed == 0 else list(MODULES)
        own = set(self.overrides)
        return [stage for stage in STAGES if stage in own]


def _everywhere(*overrides: str) -> dict[str, Sequence[str]]:
    return dict.fromkeys(STAGES, overrides)


VARIANTS: dict[str, Variant] = {
    "base": Variant("as the size says"),
    "sync_swap": Variant("sync before swap", row="sync, then swap", of="base"),
    "rgb": Variant("in RGB", row="swap, then sync, in RGB", of="base"),
    "sync_swap_rgb": Variant("sync before swap, in RGB", row="sync, then swap, in RGB", of="base"),
    "transformer": Variant("swap by a transformer", {SWAP: ["face_swap=transformer"]}),
    "unet": Variant("swap by a UNet", {SWAP: ["face_swap=unet"]}),
    "dit": Variant("swap by a DiT", {SWAP: ["face_swap=dit"]}),
    "no_identity_loss": Variant(
        "without identity loss",
        {SWAP: ["system.weights.identity_source=0", "system.weights.identity_label=0"]},
    ),
    "no_expert": Variant("without sync expert", {SYNC: ["system.weights.sync=0", "system.weights.lips=0"]}),
    "one_codebook": Variant("one codebook", _everywhere("vqgan_variant=one_codebook")),
    "f16": Variant("f16", _everywhere("vqgan_variant=f16")),
    "f8": Variant("f8", _everywhere("vqgan_variant=f8")),
    "swapped": Variant("lips trained on swaps too", {SYNC: ["system=swaptalk_lip_sync_swapped"]}),
    "no_temporal": Variant("without temporal attention", {SYNC: ["system.lip_sync.temporal=false"]}),
    "differences": Variant("latent differences", {SYNC: ["system.weights.temporal=1"]}),
    "cross_entropy": Variant("cross-entropy with codes", {SYNC: ["system.weights.entropy=0.5"]}),
    "pictures": Variant("mouth-region picture terms", {SYNC: ["system=swaptalk_lip_sync_pictures"]}),
    "one_reference": Variant("one reference", {SYNC: ["data.window.reference_frames=1"]}),
    "published": Variant("lip-sync as drawn", {SYNC: ["system=swaptalk_lip_sync_published"]}),
    "snap": Variant("snapped to codes", scoring=["snap=true"]),
}
"""The paper's ablations, then options that it lacks. Of the backbones, and of f8 and f16, one is what
``base`` has already."""

OPTIONS = list(VARIANTS)[list(VARIANTS).index("swapped") :]
DEFAULT = [name for name in VARIANTS if name not in ("unet", "f8", *OPTIONS)]
"""The paper's, but those that ``base`` is at demo size."""


@dataclass(frozen=True)
class Ablation:
    """Where the runs lie, and how they are made.

    Attributes:
        runs: folder of all runs.
        name: folder of this ablation in it.
        base: method whose stages are taken for ``base`` at seed 0; None trains them.
        overrides: for every training stage.
        of_stage: stage → overrides for it alone.
        scoring: overrides of the evaluation.
    """

    runs: Path
    name: str
    base: Path | None = None
    overrides: Sequence[str] = ()
    of_stage: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scoring: Sequence[str] = ()

    def folder(self, variant: str, seed: int) -> Path:
        """Of the stages of one run."""
        return self.runs / self.name / (VARIANTS[variant].of or variant) / f"seed-{seed}"

    def train(self, variant: str, seed: int) -> None:
        """Train the stages that the variant changes; link the others."""
        folder = self.folder(variant, seed)
        folder.mkdir(parents=True, exist_ok=True)
        own = self._own(variant, seed)
        for stage in STAGES:
            place = folder / stage
            if stage not in own:
                link(place, self._shared(variant, seed, stage))
                continue
            talkgen(
                "train",
                f"experiment={stage}",
                f"name={self.name}/{variant}/seed-{seed}/{stage}",
                f"paths.runs={self.runs}",
                f"seed={seed}",
                *self.overrides,
                *self.of_stage.get(stage, ()),
                *VARIANTS[variant].overrides.get(stage, ()),
            )

    def _own(self, variant: str, seed: int) -> list[str]:
        if variant != "base":
            return VARIANTS[variant].trained(seed)
        if seed > 0:
            return list(MODULES)
        return [] if self.base else list(STAGES)

    def _shared(self, variant: str, seed: int, stage: str) -> Path:
        """Where a stage that a run does not train comes from."""
        if variant == "base" and seed == 0:
            assert self.base is not None  # else it would be trained
            return self.base / stage
        if stage in MODULES:  # with another seed each module is another one
            return self.folder("base", seed) / stage
        # a variant that changes the VQGAN has its own at seed 0
        first = variant if VQGAN in VARIANTS[variant].overrides else "base"
        return self.folder(first, 0) / stage

    def score(self, variant: str, seed: int) -> Mapping[str, Mapping[str, float | None]]:
        """Row name → column → value, of a table that is made where it is missing or older than its runs."""
        folder = self.folder(variant, seed)
        table = folder / "evaluation" / "table.json"
        trained = [(folder / stage / "checkpoints/last.ckpt").stat().st_mtime for stage in MODULES]
        if not table.is_file() or table.stat().st_mtime < max(trained):
            run = folder.relative_to(self.runs)
            own = VARIANTS[variant].scoring
            talkgen("evaluate", f"run={run}", f"paths.runs={self.runs}", *self.scoring, *own)
        rows = json.loads(table.read_text())["rows"]
        return {row["name"]: {name: cell["value"] for name, cell in row["cells"].items()} for row in rows}


def link(place: Path, target: Path) -> None:
    """A relative link to a run folder, made anew where it points elsewhere.

    Raises:
        TalkgenError: something else lies there, or the target is not trained.
    """
    if not (target / "checkpoints/last.ckpt").is_file():
        raise TalkgenError(f"{target} is not trained; without it {place.parent} cannot be made")
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        raise TalkgenError(f"{place} was trained, but should be shared with {target}; delete it or move it")
    place.symlink_to(os.path.relpath(target.resolve(), place.parent.resolve()), target_is_directory=True)


def talkgen(*arguments: str) -> None:
    """Run a command of talkgen.

    Raises:
        TalkgenError: it failed; what it said is on the screen.
    """
    print(f"\n$ talkgen {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "talkgen.cli", *arguments], check=False).returncode
    if code:
        raise TalkgenError(f"stopped (exit code {code}); the same command goes on from there")


def summarise(
    variants: Sequence[str], tables: Mapping[tuple[str, int], Mapping[str, Mapping[str, float | None]]]
) -> tuple[list[str], list[tuple[str, int, list[tuple[float, float] | None]]]]:
    """Columns, and for each variant: words, number of seeds, (mean, standard deviation) a column.

    The deviation is that of a sample (n − 1); 0 for one seed. None where no seed has a value.
    """
    columns: list[str] = []
    rows = []
    for variant in variants:
        found = [table[VARIANTS[variant].row] for (name, _), table in tables.items() if name == variant]
        columns = columns or list(found[0])
        cells: list[tuple[float, float] | None] = []
        for column in columns:
            values = [value for row in found if (value := row.get(column)) is not None]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append((statistics.fmean(values), spread) if values else None)
        rows.append((VARIANTS[variant].words, len(found), cells))
    return columns, rows


def markdown(
    columns: Sequence[str], rows: Sequence[tuple[str, int, list[tuple[float, float] | None]]]
) -> str:
    """A line a metric, a column a variant."""
    lines = [["", *(words for words, _, _ in rows)], ["seeds", *(str(seeds) for _, seeds, _ in rows)]]
    for place, column in enumerate(columns):
        cells = [cells[place] for _, _, cells in rows]
        lines.append([column, *("–" if cell is None else f"{cell[0]:.3f} ± {cell[1]:.3f}" for cell in cells)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:], ""])


def as_csv(columns: Sequence[str], rows: Sequence[tuple[str, int, list[tuple[float, float] | None]]]) -> str:
    """One line a variant: name, seeds, and mean and standard deviation of each column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["variant", "seeds", *(head for c in columns for head in (c, f"{c} std"))])
    for words, seeds, cells in rows:
        writer.writerow([words, seeds, *(value for cell in cells for value in (cell or ("", "")))])
    return out.getvalue()


def ablate(ablation: Ablation, variants: Sequence[str], seeds: int) -> str:
    """Train, score, write; gives the table as markdown."""
    tables = {}
    made: set[Path] = set()
    for variant in dict.fromkeys(["base", *variants]):
        for seed in range(seeds):
            folder = ablation.folder(variant, seed)
            if folder not in made:
                ablation.train(VARIANTS[variant].of or variant, seed)
                made.add(folder)
            if variant in variants:
                tables[variant, seed] = ablation.score(variant, seed)
    columns, rows = summarise(variants, tables)
    text = markdown(columns, rows)
    folder = ablation.runs / ablation.name
    write_atomically(folder / "table.md", text.encode())
    write_atomically(folder / "table.csv", as_csv(columns, rows).encode())
    return text


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="; ".join(f"{name}: {variant.words}" for name, variant in VARIANTS.items()),
    )
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every training stage, or STAGE:KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=1, help="how often each variant is trained")
    parser.add_argument(
        "--variants", default=",".join(DEFAULT), help="names, with commas, or options; default: %(default)s"
    )
    parser.add_argument("--base", type=Path, help="trained method that is variant base at seed 0")
    parser.add_argument(
        "--name", default="swaptalk-ablation", help="folder under the runs; default: %(default)s"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--evaluate", nargs="*", default=[], help="KEY=VALUE for the evaluation")
    given = parser.parse_args(arguments)
    variants = [
        name
        for word in given.variants.split(",")
        for name in (["base", *OPTIONS] if word == "options" else [word])
    ]
    if unknown := [name for name in variants if name not in VARIANTS]:
        parser.error(f"no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    if given.seeds < 1:
        parser.error("--seeds is at least 1")
    everywhere: list[str] = []
    of_stage: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for override in given.overrides:
        stage, _, rest = override.partition(":")
        if stage in STAGES:
            of_stage[stage].append(rest)
        else:
            everywhere.append(override)
    ablation = Ablation(given.runs, given.name, given.base, everywhere, of_stage, given.evaluate)
    try:
        text = ablate(ablation, variants, given.seeds)
    except TalkgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{text}\nwritten to {given.runs / given.name}: table.md, table.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
