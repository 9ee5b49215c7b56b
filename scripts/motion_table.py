"""Motion alone, without a renderer: what trained motion runs do on held-out clips, against the truth.

    python scripts/motion_table.py RUN [RUN …] [--seeds 3] [--clips 0] [--out FOLDER]

Everything is read off the 68 landmarks of the morphable model with the mean head, unposed, so that neither
faces nor cameras count. The truth is exact where a store has ``truth_coefficients`` (the demo corpus), else
the fitted coefficients; networks see the fitted ones alone.

* ``lips r``: correlation of the gap between the inner lips with the truth, mean over clips; ``wrong``: of
  what another clip's sound makes. ``amplitude``: deviation over the truth's.
* ``blinks/s``, ``shut %``: by the eyes' aspect ratio (dips by 0.08; below 0.7 of the open eye). When people
  blink is chance, so that only these agree; ``off``: blinks with the lids switched off.
* ``jerk``: of all landmarks over the truth's. ``brow``: deviation of the brows' height over the truth's.
* region control: sound of clip A, eyes of clip B: r of the lips with A, of the lids with B, and the leaks,
  partial r of the lips with B given A, and of the lids with A given B (any two clips agree a little, since
  mouths are closed where they begin).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

from talkgen.configuration import RunFolder
from talkgen.data.clip import Clip
from talkgen.data.disentangled import Disentangled
from talkgen.data.files import write_atomically
from talkgen.data.store import Store
from talkgen.errors import TalkgenError
from talkgen.face3d.coefficients import EXPRESSION
from talkgen.face3d.model_files import open_morphable_model
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.inference.motion import MotionGenerator, load_motion
from talkgen.metrics.blinks import SHUT_SHARE, count_dips, eye_aspect_ratio
from talkgen.metrics.grid import markdown_grid
from talkgen.metrics.jerk import jerk
from talkgen.metrics.mouth_opening import pearson

TRUTH = "truth_coefficients"


@dataclass(frozen=True)
class Face:
    """What is read off a track of coefficients, as series (frames,) and numbers."""

    opening: np.ndarray
    eyes: np.ndarray
    brows: float
    jerk: float

    @property
    def blinks(self) -> float:
        """A second."""
        return count_dips(self.eyes) * 25 / len(self.eyes)

    @property
    def shut(self) -> float:
        """Percent of frames."""
        return 100 * float((self.eyes < SHUT_SHARE * np.quantile(self.eyes, 0.95)).mean())


class Reader:
    """Reads coefficients by a morphable model's mean head."""

    def __init__(self, model: MorphableModel) -> None:
        self.model = model.resized()

    def __call__(self, coefficients: np.ndarray) -> Face:
        """A track (frames, 257)."""
        points = self.model.landmarks68(np.zeros(80), coefficients[:, EXPRESSION]).astype(np.float64)
        flat = torch.from_numpy(points[:, :, :2])
        return Face(
            np.linalg.norm(points[:, 62] - points[:, 66], axis=1),
            eye_aspect_ratio(flat).numpy(),
            float(points[:, 17:27, 1].mean(1).std()),
            float(jerk(flat)),
        )


@dataclass(frozen=True)
class HeldOut:
    """A clip: what is heard, its coefficients, and the truth."""

    clip: Clip
    heard: np.ndarray
    coefficients: np.ndarray
    truth: Face


def r(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of two series, as far as both go."""
    count = min(len(x), len(y))
    return pearson(torch.from_numpy(x[:count].copy()), torch.from_numpy(y[:count].copy()))


def partial(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Correlation of two series once what a third one explains is taken off both; 0 where nothing is left."""
    count = min(len(x), len(y), len(given))
    left = []
    for series in (x[:count], y[:count]):
        centred, cause = series - series.mean(), given[:count] - given[:count].mean()
        left.append(centred - cause * (centred @ cause) / max(float(cause @ cause), 1e-12))
    return r(*left)


def held_out(run: Path, generator: MotionGenerator, read: Reader, limit: int) -> list[HeldOut]:
    """The clips of the run's store that nothing was trained on."""
    config = OmegaConf.load(RunFolder(run).config)
    store = Store.open(str(config.data.root))
    folder = Disentangled(str(config.disentangled))
    coefficients, heard = folder.coefficients(store), folder.heard(store, generator.features)
    clips = [clip for clip in store.clips if clip.split == "test" and clip.swap_of is None]
    found = []
    for clip in clips[: limit or None]:
        fitted = coefficients.array(clip.id)
        exact = store.array(clip, TRUTH) if store.has(clip, TRUTH) else fitted
        found.append(HeldOut(clip, heard.array(clip.id), fitted, read(exact)))
    if not found:
        raise TalkgenError(f"the store of {run} has no clips of split test")
    return found


def mean(values: list[float]) -> float:
    """Of what is known."""
    return float(np.nanmean(values))


def measure(
    clips: list[HeldOut], read: Reader, track: Callable[[int, HeldOut, np.ndarray], list[np.ndarray]]
) -> dict[str, float]:
    """Columns of one row; ``track(number, clip, heard)`` gives what is generated, once a seed."""
    columns: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        columns.setdefault(name, []).append(value)

    for number, item in enumerate(clips):
        for made in track(number, item, item.heard):
            face = read(made)
            add("lips r", r(face.opening, item.truth.opening))
            add(f"{item.clip.language or '?'} r", r(face.opening, item.truth.opening))
            add("amplitude", float(face.opening.std() / item.truth.opening.std()))
            add("blinks/s", face.blinks)
            add("shut %", face.shut)
            add("jerk", face.jerk / item.truth.jerk)
            add("brow", face.brows / item.truth.brows)
        other = clips[(number + len(clips) // 2) % len(clips)]
        for made in track(number, item, other.heard):
            add("wrong", r(read(made).opening, item.truth.opening))
    return {name: mean(values) for name, values in columns.items()}


def region_control(clips: list[HeldOut], read: Reader, generator: MotionGenerator) -> dict[str, float]:
    """Lips of A, eyes of B."""
    columns: dict[str, list[float]] = {"lips A": [], "lids B": [], "lips B": [], "lids A": []}
    for number, a in enumerate(clips):
        b = clips[(number + len(clips) // 2) % len(clips)]
        made = generator.generate(a.heard, a.coefficients[0], eye="copied", eyes=b.coefficients, seed=number)
        face = read(made)
        columns["lips A"].append(r(face.opening, a.truth.opening))
        columns["lids B"].append(r(face.eyes, b.truth.eyes))
        columns["lips B"].append(partial(face.opening, b.truth.opening, a.truth.opening))
        columns["lids A"].append(partial(face.eyes, a.truth.eyes, b.truth.eyes))
    return {name: mean(values) for name, values in columns.items()}


def scores_of(
    run: Path, seeds: int, limit: int, steps: int | None = None, guidance: float | None = None
) -> dict[str, dict[str, float]]:
    """Row → column → value, of the truth, of the coefficients that were fitted, and of what a run makes."""
    generator = load_motion(run, "cpu", steps, guidance)
    read = Reader(open_morphable_model(generator.morphable_model))
    clips = held_out(run, generator, read, limit)

    def generated(number: int, item: HeldOut, heard: np.ndarray) -> list[np.ndarray]:
        start = item.coefficients[0]
        return [generator.generate(heard, start, seed=1000 * number + seed) for seed in range(seeds)]

    began = time.process_time()
    ours = measure(clips, read, generated)
    frames = 2 * seeds * sum(len(item.heard) for item in clips)
    ours["frames/s"] = frames / (time.process_time() - began)
    fitted = measure(clips, read, lambda n, item, heard: [item.coefficients])
    del fitted["wrong"]  # of which there is none
    if len(generator.motion.space.sizes) > 1:
        quiet = [
            read(generator.generate(item.heard, item.coefficients[0], eye="off")).blinks for item in clips
        ]
        ours["off"] = mean(quiet)
        ours |= region_control(clips, read, generator)
    truth = {
        "blinks/s": mean([item.truth.blinks for item in clips]),
        "shut %": mean([item.truth.shut for item in clips]),
    }
    return {TRUE: truth, FITTED: fitted, GENERATED: ours}


TRUE, FITTED, GENERATED = "truth", "fitted", "generated"
COLUMNS = (
    "lips r", "wrong", "en r", "zh r", "amplitude", "blinks/s", "off", "shut %", "jerk", "brow",
    "lips A", "lids B", "lips B", "lids A", "frames/s",
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--clips", type=int, default=0, help="at most so many; 0: all")
    parser.add_argument("--steps", type=int, help="of the sampler")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--out", type=Path, help="file of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, dict[str, float]] = {}
    for run in arguments.runs:
        found = scores_of(run, arguments.seeds, arguments.clips, arguments.steps, arguments.guidance)
        rows = {TRUE: found[TRUE], FITTED: found[FITTED]} | rows | {str(run): found[GENERATED]}
    lines = [["motion", *COLUMNS]]
    for name, row in rows.items():
        lines.append([name, *(f"{row[key]:.3g}" if key in row else "–" for key in COLUMNS)])
    text = "\n".join(markdown_grid(lines))
    print(text)
    if arguments.out:
        write_atomically(arguments.out, f"{text}\n".encode())


if __name__ == "__main__":
    main()
