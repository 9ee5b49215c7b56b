#!/usr/bin/env python
"""Diff2Lip's ablations in one command: train each variant, score it, and put those of a sweep side by side.

    python scripts/ablate_diff2lip.py [--sweeps losses,sync_weight] [--seeds 3] [--base runs/diff2lip-demo] \\
        [--evaluate clips=12] [OVERRIDE …]

Every variant is a diffusion stage of its own; all share one sync expert (of ``--base``, or trained first) and
differ from ``base`` in a setting or two. The same command goes on where it was stopped: finished runs and
tables are left as they are. OVERRIDEs go to every run (``size=tiny data.root=…``).

Writes ``<sweep>.md`` and ``<sweep>.csv`` (mean ± standard deviation over seeds) to ``runs/<name>``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate_swaptalk import as_csv, link, markdown, talkgen

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError

EXPERT, DIFFUSION = "sync_expert", "diff2lip_diffusion"
OTHER = "another clip's sound"
WEIGHTS = "system.weights"
AUGMENTATION = "talkgen.systems.augmentation.VoiceAugmentation"


@dataclass(frozen=True)
class Variant:
    """What is changed.

    Attributes:
        words: its column's name.
        overrides: of the diffusion stage.
    """

    words: str
    overrides: Sequence[str] = ()


def _voice(noise: float) -> list[str]:
    return [f"system.augmentation={{_target_:{AUGMENTATION},gain:0.5,shift:4,noise:{noise}}}"]


def _terms(sync: float, perceptual: float, adversarial: float) -> list[str]:
    return [
        f"{WEIGHTS}.sync={sync}",
        f"{WEIGHTS}.perceptual={perceptual}",
        f"{WEIGHTS}.adversarial={adversarial}",
    ]


def _frames(count: int) -> list[str]:
    """Windows of so many frames, as many frames a batch; the expert knows windows of five only."""
    return [
        f"data.window.frames={count}",
        f"data.batch_size={20 // count}",
        f"{WEIGHTS}.sync=0",
        f"{WEIGHTS}.adversarial=0.5",
        f"system.sequence.discriminator.in_channels={3 * count}",
    ]


VARIANTS: dict[str, Variant] = {
    "base": Variant("as the size says"),
    "reconstruction": Variant("reconstruction only", _terms(0, 0, 0)),
    "with_sync": Variant("+ SyncNet", _terms(0.1, 0, 0)),
    "with_lpips": Variant("+ LPIPS", _terms(0.1, 0.25, 0)),
    "with_gan": Variant("+ sequence GAN", _terms(0.1, 0.25, 0.5)),
    **{f"sync_{w}": Variant(f"sync {w}", [f"{WEIGHTS}.sync={w}"]) for w in (0, 0.03, 0.1, 0.3)},
    **{f"frames_{n}": Variant(f"{n} frames", _frames(n)) for n in (1, 2, 5)},
    **{
        f"gap_{n}": Variant(f"reference {n} frames away or more", [f"data.window.reference_gap={n}"])
        for n in (0, 5, 15)
    },
    **{f"mel_{n}": Variant(f"{n} mel bands", [f"system.unet.mel_bins={n}"]) for n in (80, 40, 20)},
    "voice_as_is": Variant("voice as it is", ["system.augmentation=null"]),
    "voice_varied": Variant("voice varied", _voice(0)),
    "voice_noisy": Variant("voice varied, noise 0.5", _voice(0.5)),
    "unweighted": Variant("every timestep alike", ["system.loss.min_snr=null"]),
    "min_snr": Variant("min-SNR, γ = 5", ["system.loss.min_snr=5"]),
    **{
        f"predict_{what}": Variant(f"predicts {what}", [f"size.diff2lip_diffusion.prediction={what}"])
        for what in ("noise", "velocity", "x0")
    },
    **{how: Variant(how, [f"system.unet.conditioning={how}"]) for how in ("additive", "scale_shift")},
}

SWEEPS: dict[str, tuple[str, ...]] = {
    "losses": ("reconstruction", "with_sync", "with_lpips", "with_gan"),
    "sync_weight": ("sync_0", "sync_0.03", "sync_0.1", "sync_0.3"),
    "frames": ("frames_1", "frames_2", "frames_5"),
    "reference_distance": ("gap_0", "gap_5", "gap_15"),
    "mel_resolution": ("mel_80", "mel_40", "mel_20"),
    "audio_noise": ("voice_as_is", "voice_varied", "voice_noisy"),
    "min_snr": ("unweighted", "min_snr"),
    "prediction": ("predict_noise", "predict_velocity", "predict_x0"),
    "conditioning": ("additive", "scale_shift"),
}
"""The first three steps of ``losses`` are the first experiments that the paper names."""


@dataclass(frozen=True)
class Ablation:
    """Where the runs lie, and how they are made.

    Attributes:
        runs: folder of all runs.
        name: folder of this ablation in it.
        base: method whose sync expert is taken; None trains one.
        overrides: for every training stage.
        scoring: overrides of the evaluation.
    """

    runs: Path
    name: str
    base: Path | None = None
    overrides: Sequence[str] = ()
    scoring: Sequence[str] = ()

    def expert(self) -> Path:
        """The run of the sync expert, trained where it is not there."""
        if self.base is not None:
            return self.base / EXPERT
        self._train(EXPERT, f"{self.name}/{EXPERT}", 0)
        return self.runs / self.name / EXPERT

    def train(self, variant: str, seed: int, expert: Path) -> None:
        """Train one variant beside a link to the expert."""
        run = f"{self.name}/{variant}/seed-{seed}"
        (self.runs / run).mkdir(parents=True, exist_ok=True)
        link(self.runs / run / EXPERT, expert)
        self._train(DIFFUSION, f"{run}/{DIFFUSION}", seed, VARIANTS[variant].overrides)

    def _train(self, stage: str, name: str, seed: int, own: Sequence[str] = ()) -> None:
        settings = f"experiment={stage}", f"name={name}", f"paths.runs={self.runs}", f"seed={seed}"
        talkgen("train", *settings, *self.overrides, *own)

    def score(self, variant: str, seed: int) -> dict[str, float | None]:
        """Column → value, of a table that is made where it is missing or older than its run.

        The columns are those of the right sound, and of the wrong one how well the mouth follows.
        """
        folder = self.runs / self.name / variant / f"seed-{seed}"
        table = folder / "evaluation" / "table.json"
        trained = (folder / DIFFUSION / "checkpoints/last.ckpt").stat().st_mtime
        if not table.is_file() or table.stat().st_mtime < trained:
            run = folder.relative_to(self.runs)
            talkgen(
                "evaluate",
                f"run={run}",
                f"paths.runs={self.runs}",
                "rows=[lip_sync,other_sound]",
                *self.scoring,
            )
        rows = {
            row["name"]: {name: cell["value"] for name, cell in row["cells"].items()}
            for row in json.loads(table.read_text())["rows"]
        }
        (own,) = (cells for name, cells in rows.items() if name.startswith("lip-sync") and OTHER not in name)
        (other,) = (cells for name, cells in rows.items() if name.startswith("lip-sync") and OTHER in name)
        wrong = {
            f"{name}, {OTHER}": value for name, value in other.items() if name.startswith("mouth opening")
        }
        return own | wrong


def summarise(
    variants: Sequence[str], scores: Mapping[tuple[str, int], Mapping[str, float | None]]
) -> tuple[list[str], list[tuple[str, int, list[tuple[float, float] | None]]]]:
    """Columns, and for each variant: words, number of seeds, (mean, standard deviation) a column."""
    columns = list(next(iter(scores.values())))
    rows = []
    for variant in variants:
        found = [score for (name, _), score in scores.items() if name == variant]
        cells: list[tuple[float, float] | None] = []
        for column in columns:
            values = [value for score in found if (value := score.get(column)) is not None]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append((statistics.fmean(values), spread) if values else None)
        rows.append((VARIANTS[variant].words, len(found), cells))
    return columns, rows


def ablate(ablation: Ablation, sweeps: Sequence[str], seeds: int) -> str:
    """Train, score, write; gives the tables as markdown."""
    expert = ablation.expert()
    texts = []
    for sweep in sweeps:
        scores = {}
        for variant in SWEEPS[sweep]:
            for seed in range(seeds):
                ablation.train(variant, seed, expert)
                scores[variant, seed] = ablation.score(variant, seed)
        columns, rows = summarise(SWEEPS[sweep], scores)
        folder = ablation.runs / ablation.name
        texts.append(f"### {sweep}\n\n{markdown(columns, rows)}")
        write_atomically(folder / f"{sweep}.md", texts[-1].encode())
        write_atomically(folder / f"{sweep}.csv", as_csv(columns, rows).encode())
    return "\n".join(texts)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="; ".join(
            f"{name}: {', '.join(VARIANTS[v].words for v in vs)}" for name, vs in SWEEPS.items()
        ),
    )
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every training stage")
    parser.add_argument("--sweeps", default=",".join(SWEEPS), help="names, with commas; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=1, help="how often each variant is trained")
    parser.add_argument("--base", type=Path, help="trained method whose sync expert is used")
    parser.add_argument("--name", default="diff2lip-ablation", help="folder under the runs")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--evaluate", nargs="*", default=[], help="KEY=VALUE for the evaluation")
    given = parser.parse_args(arguments)
    sweeps = given.sweeps.split(",")
    if unknown := [name for name in sweeps if name not in SWEEPS]:
        parser.error(f"no sweep {unknown[0]!r}; there are {', '.join(SWEEPS)}")
    if given.seeds < 1:
        parser.error("--seeds is at least 1")
    ablation = Ablation(given.runs, given.name, given.base, given.overrides, given.evaluate)
    try:
        text = ablate(ablation, sweeps, given.seeds)
    except TalkgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\n{text}\nwritten to {given.runs / given.name}: one .md and .csv a sweep")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
