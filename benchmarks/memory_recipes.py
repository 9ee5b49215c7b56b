"""Which batch, precision and checkpointing of each stage at paper size fit on cards of 8 to 80 GB.

    python benchmarks/memory_recipes.py                    # the table of the footprints that are kept
    python benchmarks/memory_recipes.py --measure          # measure them anew, some minutes; no GPU is needed
    python benchmarks/memory_recipes.py --measure --stages disenttalk_motion --write

``talkgen.memory_recipes`` says how. ``--write`` keeps the footprints, from which ``talkgen doctor
--experiment`` answers, and the table in docs/performance/memory_recipes.md.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings

import torch
from document import keep
from training_steps import stages

from talkgen.memory_recipes import (
    CARDS,
    FOOTPRINTS,
    RESERVE,
    SLACK,
    footprints,
    measure,
    table,
    write_footprints,
)

TEXT = """What of each stage at `size=paper` fits on a card, in bf16-mixed, so that a step of the optimiser
sees the batch of the config: samples at a time × batches that are added up (`accumulate=`), with
`checkpointing` where activations have to be recomputed, and the peak in GB. Computed from shapes
alone (`talkgen.memory_recipes`), {slack:.0%} of a card and {reserve} GB left free.
`talkgen doctor --experiment STAGE` picks the cell of the machine that it runs on.

{table}

Stages that compare the samples of a batch with each other (the sync experts) learn slower in parts, since
parts have fewer negatives.
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="do not take what is kept")
    parser.add_argument("--stages", nargs="*", help="that are measured; default: all")
    parser.add_argument("--write", action="store_true", help="keep footprints and table")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    known = footprints() if FOOTPRINTS.is_file() else {}
    if given.measure:
        for stage in given.stages or stages():
            begun = time.perf_counter()
            known[stage] = measure(stage)
            print(f"{stage}: {known[stage]} ({time.perf_counter() - begun:.0f} s)", flush=True)
            if given.write:
                write_footprints(known)
    lines = "\n".join(table(known, CARDS))
    print(lines)
    if given.write:
        text = TEXT.format(slack=SLACK, reserve=RESERVE / 1e9, table=lines)
        keep("memory_recipes", "Memory recipes", text)


if __name__ == "__main__":
    main()
