"""The ablation of DisentTalk's paper for the motion stage, in one command: train each variant, score it, and
put them side by side.

    python scripts/ablate_disenttalk.py [--name NAME] [--variants base,flat,…] [--guidance 0.5,1.5,2,3] \\
        [OVERRIDE …]

OVERRIDEs go to every training stage (``size=tiny data.root=… speech=whisper``). Subspaces, sync expert and
motion of a variant lie in ``runs/<name>/<variant>``; what it does not change is base's. The same command goes
on where it was stopped. The table (see ``scripts/motion_table.py``) is ``runs/<name>/table.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motion_table import HEADER, rows_of

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError

DISENTANGLE, EXPERT, MOTION = "disenttalk_disentangle", "disenttalk_sync_expert", "disenttalk_motion"


@dataclass(frozen=True)
class Variant:
    """What is changed.

    Attributes:
        words: its row's name.
        motion: overrides of the motion stage.
        rule: overrides of the first stage; None: base's subspaces and expert.
        sizes: of the regions, where the rule changes them; one alone: none are told apart.
    """

    words: str
    motion: Sequence[str] = ()
    rule: Sequence[str] | None = None
    sizes: Sequence[int] = (6, 4, 20)


SILENT = ("system.weights.sync=0", "system.expert=null")
VARIANTS: dict[str, Variant] = {
    "base": Variant("all", rule=()),
    "undivided": Variant("without disentanglement", SILENT, ("make.rule=none", "make.rest_size=30"), (30,)),
    "flat": Variant("without hierarchy", ("system.denoiser.hierarchical=false",)),
    "no_local": Variant("without local path", ("system.denoiser.local=false",)),
    "no_temporal": Variant("without temporal convolutions", ("system.denoiser.temporal=false",)),
    "no_sync": Variant("without sync loss", SILENT),
    "index": Variant("index rule, 13 and 8", (), ("make.rule=index",), (13, 8, 20)),
    "small": Variant("3 and 2 directions", (), ("make.sizes={lip:3,eye:2}",), (3, 2, 20)),
    "large": Variant("13 and 8 directions", (), ("make.sizes={lip:13,eye:8}",), (13, 8, 20)),
}


def train(experiment: str, name: str, overrides: Sequence[str]) -> None:
    """One stage; a finished one says so.

    Raises:
        TalkgenError: it failed.
    """
    command = [sys.executable, "-m", "talkgen.cli", "train", f"experiment={experiment}", f"name={name}"]
    if code := subprocess.run([*command, *overrides], check=False).returncode:
        raise TalkgenError(f"{experiment} of {name} failed (exit code {code})")


def train_variant(name: str, key: str, runs: Path, overrides: Sequence[str]) -> Path:
    """The stages of a variant; its motion run."""
    variant = VARIANTS[key]
    owner = f"{name}/{key if variant.rule is not None else 'base'}"
    sizes = f"[{','.join(map(str, variant.sizes))}]"
    places = [f"paths.runs={runs}", f"disentangled={runs / owner / DISENTANGLE}"]
    space = f"system.space.sizes={sizes}"
    if variant.rule is not None:
        wanted = [item for item in overrides if item.split("=")[0] in ("data.root", "size", "data")]
        train(DISENTANGLE, f"{owner}/{DISENTANGLE}", [f"paths.runs={runs}", *wanted, *variant.rule])
        if len(variant.sizes) > 1:
            lips = f"system.expert.mouth_dim={variant.sizes[0]}"
            train(EXPERT, f"{owner}/{EXPERT}", [*places, space, lips, *overrides])
    own = f"{name}/{key}/{MOTION}"
    shapes = [space, f"system.denoiser.sizes={sizes}", f"sync_expert={runs / owner / EXPERT}"]
    train(MOTION, own, [*places, *shapes, *variant.motion, *overrides])
    return runs / own


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--name", default="disenttalk-ablation")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--guidance", default="0.5,1.5,2,3", help="further weights with which base is scored")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    chosen = arguments.variants.split(",")
    if unknown := sorted(set(chosen) - VARIANTS.keys()):
        raise SystemExit(f"no variant {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    if "base" not in chosen:
        chosen = ["base", *chosen]
    rows: list[list[str]] = []
    for key in chosen:
        run = train_variant(arguments.name, key, arguments.runs.absolute(), arguments.overrides)
        found = rows_of(run, arguments.seeds, arguments.clips, None, None)
        found[-1][0] = VARIANTS[key].words
        rows += found if not rows else found[-1:]
        if key == "base":
            for weight in filter(None, arguments.guidance.split(",")):
                row = rows_of(run, arguments.seeds, arguments.clips, None, float(weight))[-1]
                rows.append([f"all, guidance {weight}", *row[1:]])
    lines = [list(HEADER), ["---"] * len(HEADER), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(text)
    write_atomically(arguments.runs / arguments.name / "table.md", f"{text}\n".encode())


if __name__ == "__main__":
    main()
