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
each run lies in its folder, and is made again when it is deleted, or when ``--evaluate`` changes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ablation import TABLE, Ablation, Cells, Method, Variant, argument_parser, chosen, positive, run

VQGAN, EXPERT, HEAD = "swaptalk_vqgan", "swaptalk_sync_expert", "swaptalk_identity_head"
SWAP, SYNC = "swaptalk_face_swap", "swaptalk_lip_sync"
STAGES = (VQGAN, EXPERT, HEAD, SWAP, SYNC)

ROW = "swap, then sync"
"""The row of a variant's table that stands for it, where it names no other."""


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


def score(ablation: Ablation, variant: Variant, folder: Path) -> Cells:
    """Of the row that stands for a variant."""
    return ablation.evaluate(folder, *variant.scoring)[variant.row or ROW]


METHOD = Method(STAGES, (SWAP, SYNC), VARIANTS, score)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    epilog = "; ".join(f"{name}: {variant.words}" for name, variant in VARIANTS.items())
    parser = argument_parser(__doc__, epilog, "swaptalk-ablation", "swaptalk")
    parser.add_argument("--seeds", type=positive, default=1, help="how often each variant is trained")
    parser.add_argument(
        "--variants", default=",".join(DEFAULT), help="names, with commas, or options; default: %(default)s"
    )
    parser.add_argument("--evaluate", nargs="*", default=[], help="KEY=VALUE for the evaluation")
    given = parser.parse_args(arguments)
    wanted = [
        name
        for word in given.variants.split(",")
        for name in (["base", *OPTIONS] if word == "options" else [word])
    ]
    variants = chosen(parser, ",".join(wanted), VARIANTS, "variant")
    return run(METHOD, given, {TABLE: variants}, given.seeds, given.evaluate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
