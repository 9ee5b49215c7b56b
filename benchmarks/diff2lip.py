"""Quality against cost: what Diff2Lip's demo model gives for how many calls of the network.

    python benchmarks/diff2lip.py --run runs/diff2lip-demo            # prints the table
    python benchmarks/diff2lip.py --run runs/diff2lip-demo --write    # also keeps it, and a picture

Every row generates the same held-out clips with their own sound. Time is processor time of one thread inside
the network and its sampler, so that other programs of the machine change it little. The setting of the
published script (25 steps of DDIM in fp32) is the baseline. A distilled network stands beside the other where
the method's folder has one. ``benchmarks/diff2lip_network.py`` measures the published size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from document import ROOT, keep
from numpy.typing import NDArray

from talkgen.data.store import Store
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.sampler import Sampler
from talkgen.diffusion.unipc import UniPC
from talkgen.inference.contenders import Casting, CopiedMouth
from talkgen.inference.diff2lip import Diff2Lip, load_diff2lip, run_of
from talkgen.inference.diff2lip_contenders import Diff2LipRow
from talkgen.inference.expert_sync import ExpertSync
from talkgen.inference.runs import run_config
from talkgen.inference.stages import DISTILLED_STAGE, diff2lip_run
from talkgen.metrics.contenders import Contender, GroundTruth
from talkgen.metrics.held_out import HeldOutClips, choose_clips
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.lmd import LMD
from talkgen.metrics.mouth_opening import MouthOpeningCorrelation
from talkgen.metrics.psnr import PSNR
from talkgen.metrics.scoring import score
from talkgen.models.diff2lip.inpainting import FeatureCache

PICTURE = ROOT / "docs" / "images" / "diff2lip_curve.png"
OFFICIAL = "DDIM, 25 steps"


@dataclass(frozen=True)
class Setting:
    """One way to sample.

    Attributes:
        sampler: and its steps.
        cache: of deep features.
        bf16: compute in bfloat16.
        distilled: with the distilled network.
    """

    sampler: Sampler
    cache: FeatureCache | None = None
    bf16: bool = False
    distilled: bool = False


SETTINGS = {
    OFFICIAL: Setting(DDIM(25)),
    "DDIM, 10 steps": Setting(DDIM(10)),
    "DPM-Solver++, 12 steps": Setting(DPMSolver(12)),
    "DPM-Solver++, 8 steps": Setting(DPMSolver(8)),
    "DPM-Solver++, 6 steps": Setting(DPMSolver(6)),
    "DPM-Solver++, 4 steps": Setting(DPMSolver(4)),
    "DPM-Solver++, 2 steps": Setting(DPMSolver(2)),
    "UniPC, 8 steps": Setting(UniPC(8)),
    "DPM-Solver++, 8 steps, inner blocks at every other": Setting(DPMSolver(8), FeatureCache(2, 2)),
    "DPM-Solver++, 8 steps, bf16": Setting(DPMSolver(8), bf16=True),
    "distilled, 2 steps": Setting(DDIM(2, spacing="trailing"), distilled=True),
    "distilled, 1 step": Setting(DDIM(1, spacing="trailing"), distilled=True),
}


@dataclass(frozen=True)
class Measured:
    """One row.

    Attributes:
        calls: of the network for a frame.
        milliseconds: of processor time for a frame.
        values: column → value.
    """

    calls: int
    milliseconds: float
    values: Mapping[str, float]


class Clock:
    """A row whose network is timed."""

    def __init__(self, model: Diff2Lip) -> None:
        self.pictures = model.pictures
        self.seconds = 0.0
        self.frames = 0

    def __call__(self, crops: NDArray[np.uint8], *others: object) -> NDArray[np.uint8]:
        """What the model makes."""
        begin = time.process_time()
        made = self.pictures(crops, *others)  # type: ignore[arg-type]
        self.seconds += time.process_time() - begin
        self.frames += len(crops)
        return made


def measure(
    folder: Path, names: Sequence[str], clips: int, frames: int | None, expert: Path | None = None
) -> dict[str, Measured]:
    """Score the settings on held-out clips; also the rows that need no network.

    Args:
        folder: of the method's stages.
        names: of ``SETTINGS``.
        clips: so many.
        frames: of each clip; None: all.
        expert: run of a sync expert; None: no sync column.
    """
    run = run_of(folder)
    config = run_config(run)
    store = Store.open(config.data.root)
    chosen = choose_clips([clip for clip in store.clips if not clip.swap_of], None, clips)
    held = HeldOutClips(store, chosen, store.size, frames)
    casting = Casting(held, [])
    contenders: list[Contender] = [GroundTruth(), CopiedMouth(casting)]
    clocks: dict[str, tuple[Clock, int]] = {}
    for name in names:
        setting = SETTINGS[name]
        place = run.path.parent / DISTILLED_STAGE if setting.distilled else folder
        if diff2lip_run(place) is None:
            continue
        model = load_diff2lip(place, setting.sampler, cache=setting.cache, bf16=setting.bf16)
        clock = Clock(model)
        model.pictures = clock  # type: ignore[method-assign, assignment]
        clocks[name] = clock, len(setting.sampler.timesteps(model.diffusion.schedule))
        contenders.append(Diff2LipRow(name, model, casting, "own"))
    metrics = [
        [
            MouthOpeningCorrelation("corpus"),
            LMD("mouth,centred"),
            *([ExpertSync("confidence", expert)] if expert else []),
            PSNR(region="mouth"),
        ]
        for _ in contenders
    ]
    landmarks = open_landmark_source()
    with tempfile.TemporaryDirectory() as out:
        seen = landmarks if isinstance(landmarks, LandmarkSource) else None
        score(contenders, metrics, held, seen, Path(out))
    rows = {}
    for contender, row in zip(contenders, metrics, strict=True):
        clock_of, calls = clocks.get(contender.name, (None, 0))
        spent = 1000 * clock_of.seconds / clock_of.frames if clock_of else 0.0
        rows[contender.name] = Measured(calls, spent, {m.column: float(m.compute()) for m in row})
    return rows


def table(rows: Mapping[str, Measured]) -> list[str]:
    """Markdown; costs as ratios to the official setting."""
    columns = list(next(iter(rows.values())).values)
    base = rows[OFFICIAL].milliseconds if OFFICIAL in rows else None
    lines = [
        "| setting | calls | ms a frame | times as fast | " + " | ".join(columns) + " |",
        "|---|---:|---:|---:|" + "---:|" * len(columns),
    ]
    for name, row in rows.items():
        cost = "– | – | –"
        if row.calls:
            ratio = f"{base / row.milliseconds:.1f}" if base else "–"
            cost = f"{row.calls} | {row.milliseconds:.1f} | {ratio}"
        marked = f"**{name} (as published)**" if name == OFFICIAL else name
        values = " | ".join(f"{row.values[column]:.3f}" for column in columns)
        lines.append(f"| {marked} | {cost} | {values} |")
    return lines


def draw(rows: Mapping[str, Measured], file: Path) -> None:
    """Each quality against milliseconds; the official setting is a star."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    made = {name: row for name, row in rows.items() if row.calls}
    columns = [c for c in next(iter(rows.values())).values if not c.startswith("mouth opening")]
    figure, panels = pyplot.subplots(1, len(columns), figsize=(4.2 * len(columns), 3.8))
    for panel, column in zip(np.atleast_1d(panels), columns, strict=True):
        for name, row in made.items():
            official = name == OFFICIAL
            colour = "tab:red" if official else "tab:green" if "distilled" in name else "tab:blue"
            panel.plot(
                row.milliseconds, row.values[column], "*" if official else "o", color=colour,
                markersize=14 if official else 6,
            )  # fmt: skip
            note = f"{row.calls}" + (" bf16" if "bf16" in name else " cached" if "inner" in name else "")
            panel.annotate(note, (row.milliseconds, row.values[column]), (4, 4), textcoords="offset points")
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_locator(ticker.NullLocator())
        panel.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        panel.set_xlabel("ms a frame (one thread)")
        panel.set_title(column, fontsize=10)
        panel.grid(alpha=0.3)
    figure.suptitle(
        "Numbers: calls of the network. Star: the published setting. Green: distilled.", fontsize=9
    )
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(file)
    pyplot.close(figure)


REPORT_TEXT = """The demo model (64 pixels) on {clips} held-out clips with their own sound; processor time of
one thread in the network and its sampler.

{table}

![Quality against milliseconds a frame](../images/{picture})
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the method's stages")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, help="of each clip; default: all")
    parser.add_argument("--expert", type=Path, help="run of a sync expert, for a sync column")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS), help="rows; default: all")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(chosen.run, chosen.settings, chosen.clips, chosen.frames, chosen.expert)
    text = REPORT_TEXT.format(clips=chosen.clips, table="\n".join(table(rows)), picture=PICTURE.name)
    print(text)
    if chosen.write:
        draw(rows, PICTURE)
        keep("diff2lip", "Diff2Lip: quality against cost", text)


if __name__ == "__main__":
    main()
