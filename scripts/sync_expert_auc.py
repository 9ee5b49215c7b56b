#!/usr/bin/env python
"""Does a sync expert tell own sound from another video's, and how far it is off, on faces that it never saw?

    python scripts/sync_expert_auc.py RUN VIDEO.mp4 [VIDEO.mp4 …] [--frames 125] [--near 5] [--lags LAGS.csv]

Every video is scored with its own sound and with that of every video of another person, by the confidence and
the distance of ``talkgen.inference.expert_sync``, and the area under the ROC curve is printed: the share of
(own, exchanged) pairs that are ordered rightly. The interval is a bootstrap over videos. Videos whose names
agree up to the last underscore (``anna_a.mp4``, ``anna_b.mp4``) show one person.

Offsets are printed for every video, and by how much they miss it when the sound is moved by up to 5 frames:
|offset + frames that the sound is late − offset of the video itself|. Videos are off by themselves; what
somebody else measured of them can be compared (``--lags``: lines ``name,frames``, positive where the sound is
early, as the offset is).
"""

from __future__ import annotations

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOVED = range(-5, 6)
"""Frames by which sound comes late."""


def auc(own: NDArray[np.floating], exchanged: NDArray[np.floating]) -> float:
    """Share of pairs in which the own score is higher, ties half."""
    higher, equal = own[:, None] > exchanged[None], own[:, None] == exchanged[None]
    return float(higher.mean() + 0.5 * equal.mean())


def person(file: Path) -> str:
    """The name up to its last part, where that is one letter."""
    head, _, tail = file.stem.rpartition("_")
    return head if head and len(tail) == 1 else file.stem


def moved(vectors: Tensor, frames: int) -> Tensor:
    """Lips (2, windows, d) beside the sound ``frames`` frames before; windows without one are left out."""
    lips, sound = vectors
    count = len(lips) - abs(frames)
    first = max(frames, 0)
    return torch.stack([lips[first : first + count], sound[first - frames : first - frames + count]])


def show_offsets(names: list[str], vectors: list[Tensor], lags: Path | None) -> None:
    """Print what each video's sound is off by, how well moved sound is followed, and others' measurements."""
    from talkgen.inference.expert_sync import score_of

    own = np.array([score_of(one).offset for one in vectors])
    print("offsets:", ", ".join(f"{name} {offset:+d}" for name, offset in zip(names, own, strict=True)))
    missed = np.array([[score_of(moved(one, late)).offset + late for late in MOVED] for one in vectors])
    missed = np.abs(missed - own[:, None])
    print(
        f"sound moved by {MOVED[0]:+d} to {MOVED[-1]:+d} frames: missed by {missed.mean():.2f} frames, "
        f"by one at most in {(missed <= 1).mean():.1%}"
    )
    if lags is not None:
        measured = {row[0]: float(row[1]) for row in csv.reader(lags.open(encoding="utf-8"))}
        both = [place for place, name in enumerate(names) if name in measured]
        theirs = np.array([measured[names[place]] for place in both])
        apart = own[both] - theirs
        middle = float(np.median(apart))
        rest = np.abs(apart - middle)
        print(
            f"{lags.name}, {len(both)} videos: r = {np.corrcoef(own[both], theirs)[0, 1]:.2f}, "
            f"median difference {middle:+.1f} frames, less that {rest.mean():.2f} apart, "
            f"by one at most in {int((rest <= 1).sum())}"
        )


def main() -> None:
    """Print the numbers."""
    from talkgen.audio.waveform import load_waveform
    from talkgen.errors import TalkgenError
    from talkgen.inference.av_offset import load_av_offset
    from talkgen.inference.expert_sync import NEAR, expert_vectors, score_of
    from talkgen.metrics.landmark_source import open_landmark_source
    from talkgen.video.reader import read_frames

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("run", type=Path, help="of experiment=evaluation_sync_expert, or of sync_expert")
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=125, help="at most so many of each video")
    parser.add_argument("--near", type=int, default=NEAR, help="shifts among which the best is looked for")
    parser.add_argument("--lags", type=Path, help="csv of names and offsets that were measured otherwise")
    chosen = parser.parse_args()
    source = open_landmark_source()
    if isinstance(source, TalkgenError):
        raise SystemExit(str(source))
    expert = load_av_offset(chosen.run)
    people, vectors = [], []
    for file in chosen.videos:
        frames = np.stack(list(itertools.islice(read_frames(file, fps=25), chosen.frames)))
        landmarks = source(torch.from_numpy(frames)).numpy()
        waveform = load_waveform(file)[: round(len(frames) * 640)]
        people.append(person(file))
        vectors.append(expert_vectors(expert, frames, landmarks, waveform))
        print(f"{file.stem}: {vectors[-1].shape[1]} windows", flush=True)
    count = len(vectors)
    scores = np.full((count, count, 2), np.nan)  # confidence, and the distance with its sign turned
    for lips, sound in itertools.product(range(count), repeat=2):
        if lips != sound and people[lips] == people[sound]:
            continue
        windows = min(vectors[lips].shape[1], vectors[sound].shape[1])
        found = score_of(torch.stack([vectors[lips][0, :windows], vectors[sound][1, :windows]]), chosen.near)
        scores[lips, sound] = found.confidence, -found.distance
    strangers = ~np.isnan(scores[..., 0]) & ~np.eye(count, dtype=bool)
    print(f"{count} videos of {len(set(people))} people, {int(strangers.sum())} exchanged pairs")
    show_offsets([file.stem for file in chosen.videos], vectors, chosen.lags)
    random = np.random.default_rng(0)
    draws = random.integers(0, count, (1000, count))
    for place, name in enumerate(("confidence", "distance")):
        table = scores[..., place]
        value = auc(np.diag(table), table[strangers])
        resampled = []
        for draw in draws:
            own, pairs = np.diag(table)[draw], table[np.ix_(draw, draw)][strangers[np.ix_(draw, draw)]]
            resampled.append(auc(own, pairs))
        low, high = np.quantile(resampled, [0.025, 0.975])
        print(f"AUC by {name}: {value:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
