"""The ablation of DisentTalk's paper for the motion stage, in one command: train each variant, score it, and
put them side by side.

    python scripts/ablate_disenttalk.py [--name NAME] [--variants base,flat,…] [--guidance 0.5,1.5,2,3] \\
        [--trainings 3] [OVERRIDE …] [STAGE:OVERRIDE …]

OVERRIDEs go to every training stage (``size=tiny data.root=… speech=whisper``), ``STAGE:OVERRIDE`` to one.
Every training trains the motion anew; subspaces and sync expert are those of the first unless a variant
changes them. Stages of a variant lie in ``runs/<name>/<variant>/seed-<n>``; what it does not change is
base's. The same command goes on where it was stopped. The table (see ``scripts/motion_table.py``, mean ±
standard deviation over trainings) is ``runs/<name>/table.md`` and ``table.csv``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ablation import TABLE, Ablation, Cells, Method, Variant, argument_parser, chosen, positive, run
from motion_table import COLUMNS, FITTED, GENERATED, TRUE, scores_of

from talkgen.data.disentangled import FILE
from talkgen.data.files import write_atomically

DISENTANGLE, EXPERT, MOTION = STAGES = (
    "disenttalk_disentangle", "disenttalk_sync_expert", "disenttalk_motion",
)  # fmt: skip
SILENT = ("system.weights.sync=0", "system.expert=null")


def _variant(
    words: str,
    motion: Sequence[str] = (),
    rule: Sequence[str] | None = None,
    sizes: Sequence[int] = (6, 4, 20),
) -> Variant:
    """A variant of the motion stage.

    Args:
        words: its name in the table.
        motion: overrides of the motion stage.
        rule: overrides of the first stage; None: base's subspaces and expert.
        sizes: of the regions, where the rule changes them; one alone: none are told apart.
    """
    listed = f"[{','.join(map(str, sizes))}]"
    space = f"system.space.sizes={listed}"
    overrides: dict[str, Sequence[str]] = {MOTION: (space, f"system.denoiser.sizes={listed}", *motion)}
    if rule is not None:
        overrides |= {DISENTANGLE: rule, EXPERT: (space, f"system.expert.mouth_dim={sizes[0]}")}
    return Variant(words, overrides, without=() if len(sizes) > 1 else (EXPERT,))


VARIANTS: dict[str, Variant] = {
    "base": _variant("all", rule=()),
    "undivided": _variant("without disentanglement", SILENT, ("make.rule=none", "make.rest_size=30"), (30,)),
    "flat": _variant("without hierarchy", ("system.denoiser.hierarchical=false",)),
    "no_local": _variant("without local path", ("system.denoiser.local=false",)),
    "no_temporal": _variant("without temporal convolutions", ("system.denoiser.temporal=false",)),
    "no_sync": _variant("without sync loss", SILENT),
    "index": _variant("index rule, 13 and 8", (), ("make.rule=index",), (13, 8, 20)),
    "small": _variant("3 and 2 directions", (), ("make.sizes={lip:3,eye:2}",), (3, 2, 20)),
    "large": _variant("13 and 8 directions", (), ("make.sizes={lip:13,eye:8}",), (13, 8, 20)),
}
REFERENCES = {name: Variant(name, row=name, of="base") for name in (TRUE, FITTED)}
"""Rows of base's scores that stand before it."""


def guided(weights: Sequence[str]) -> dict[str, Variant]:
    """Base, scored with further guidance weights."""
    return {f"guidance {w}": Variant(f"all, guidance {w}", of="base", scoring=(w,)) for w in weights}


def score(ablation: Ablation, variant: Variant, folder: Path, seeds: int, clips: int) -> Cells:
    """What the motion of a run does on held-out clips.

    Args:
        ablation, variant, folder: see ``Method``; ``variant.scoring`` is a guidance weight or nothing.
        seeds: of the sampler.
        clips: at most so many; 0: all.
    """
    guidance = float(variant.scoring[0]) if variant.scoring else None
    file = folder / "evaluation" / f"motion{'' if guidance is None else f'_guidance_{guidance}'}.json"

    def make() -> None:
        rows = scores_of(folder / MOTION, seeds, clips, guidance=guidance)
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, json.dumps(rows).encode())

    row = ablation.scores(folder, file, [f"seeds={seeds}", f"clips={clips}"], make)[variant.row or GENERATED]
    known = {column: row.get(column) for column in COLUMNS}
    return {name: None if value is None or math.isnan(value) else value for name, value in known.items()}


def method(seeds: int = 2, clips: int = 0, weights: Sequence[str] = ()) -> Method:
    """The motion stage and what it needs; see ``score`` and ``guided``."""
    return Method(
        STAGES,
        (MOTION,),
        {**REFERENCES, **VARIANTS, **guided(weights)},
        partial(score, seeds=seeds, clips=clips),
        keys={DISENTANGLE: ("data.root", "size", "data")},
        results={DISENTANGLE: FILE},
    )


def main(arguments: Sequence[str]) -> int:
    """The command."""
    epilog = "; ".join(f"{name}: {variant.words}" for name, variant in VARIANTS.items())
    parser = argument_parser(__doc__, epilog, "disenttalk-ablation", "disenttalk")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="names, with commas")
    parser.add_argument("--guidance", default="0.5,1.5,2,3", help="further weights with which base is scored")
    parser.add_argument("--trainings", type=positive, default=1, help="how often each variant is trained")
    parser.add_argument("--seeds", type=positive, default=2, help="how often a trained variant is sampled")
    parser.add_argument("--clips", type=int, default=0, help="at most so many are scored; 0: all")
    given = parser.parse_args(arguments)
    others = [name for name in chosen(parser, given.variants, VARIANTS, "variant") if name != "base"]
    weights = [weight for weight in given.guidance.split(",") if weight]
    variants = [*REFERENCES, "base", *guided(weights), *others]
    given.runs = given.runs.absolute()
    return run(method(given.seeds, given.clips, weights), given, {TABLE: variants}, given.trainings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
