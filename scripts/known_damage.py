#!/usr/bin/env python
"""What every metric says about damage whose direction is known.

    python scripts/known_damage.py CLIP.mp4 [CLIP.mp4 …] [--frames 50] [--size 256] [--sync-expert RUN]

Damages clips of talking faces (blur, JPEG, trembling, flicker, a frozen mouth, dropped blinks, another
person's frames) and prints a table: one line a metric, mean over the clips. A second table has the sync
columns for sound that is moved by frames, or another clip's. The clips must be of different people.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

SHIFTS = (-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5)
"""Frames by which the sound comes late."""
RECOGNISER = "edgeface_s"
EXCHANGED = "other person"


@dataclass(frozen=True)
class Clip:
    """Frames uint8 (t, h, w, 3), landmarks (t, 68, 2), sound (t · 640,)."""

    frames: Tensor
    landmarks: Tensor
    sound: Tensor


def damages() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Name → (frames, landmarks) → frames; the exchanged identity is made elsewhere."""
    from talkgen.metrics import damage

    return {
        "none": lambda frames, points: frames,
        "blur σ 0.7": lambda frames, points: damage.blur(frames, 0.7),
        "blur σ 2": lambda frames, points: damage.blur(frames, 2.0),
        "JPEG 50": lambda frames, points: damage.jpeg(frames, 50),
        "JPEG 15": lambda frames, points: damage.jpeg(frames, 15),
        "tremble 2 px": lambda frames, points: damage.tremble(frames, 2),
        "flicker ±4": lambda frames, points: damage.flicker(frames, 4),
        "frozen mouth": lambda frames, points: damage.freeze_mouth(frames, points, 0),
        "no blinks": lambda frames, points: damage.freeze_eyes(frames, points, 0),
        EXCHANGED: lambda frames, points: frames,
    }


def metrics() -> list[Any]:
    """One of each kind that needs no sound."""
    from talkgen.metrics.blinks import BlinkRateError
    from talkgen.metrics.cpbd import CPBD, CPBDDifference
    from talkgen.metrics.csim import CSIM
    from talkgen.metrics.fid import FID, KID
    from talkgen.metrics.identity_consistency import IdentityConsistency
    from talkgen.metrics.identity_retrieval import IdentityRetrieval
    from talkgen.metrics.jerk import JerkRatio
    from talkgen.metrics.lmd import LMD
    from talkgen.metrics.lpips import LPIPS, TLPIPS
    from talkgen.metrics.mouth_opening import MouthOpeningAmplitude, MouthOpeningCorrelation
    from talkgen.metrics.niqe import NIQE
    from talkgen.metrics.pose_error import ExpressionError, PoseError
    from talkgen.metrics.psnr import PSNR
    from talkgen.metrics.ssim import SSIM
    from talkgen.metrics.warping_error import TOF, WarpingError

    return [
        PSNR(),
        PSNR(region="mouth"),
        SSIM(),
        LPIPS(),
        LPIPS(region="mouth"),
        FID(every=5),
        KID(every=5),
        CPBD(),
        CPBDDifference(),
        NIQE(every=5),
        LMD("mouth,centred"),
        LMD("mouth,pose-free"),
        MouthOpeningCorrelation(),
        MouthOpeningAmplitude(),
        BlinkRateError("peaks"),
        CSIM(RECOGNISER),
        IdentityRetrieval(RECOGNISER),
        IdentityConsistency("pairs", RECOGNISER),
        PoseError(),
        ExpressionError(),
        JerkRatio(),
        WarpingError(),
        TOF(),
        TLPIPS(),
    ]


def sync_metrics(expert: str | None) -> list[Any]:
    """The columns that listen."""
    from talkgen.inference.expert_sync import ExpertSync
    from talkgen.metrics.lip_sync_error import LipSyncError

    readings: tuple[Any, ...] = ("confidence", "distance", "offset")
    return [
        *(ExpertSync(reading, expert) for reading in readings),
        *(LipSyncError(reading, "lossless") for reading in readings),
    ]


def read(file: Path, frames: int, size: int) -> tuple[Tensor, Tensor]:
    """The first frames of a square video, shrunk, and their sound."""
    from talkgen.audio.waveform import load_waveform
    from talkgen.video.reader import read_frames

    pictures = itertools.islice(read_frames(file, fps=25), frames)
    resized = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in pictures]
    sound = torch.zeros(len(resized) * 640)
    heard = load_waveform(file)[: len(sound)]
    sound[: len(heard)] = torch.from_numpy(heard)
    return torch.from_numpy(np.stack(resized)), sound


def picture_table(clips: list[Clip], files: list[Path], source: Any) -> list[list[str]]:
    """A row a metric, a column a damage; the first row has the names."""
    from talkgen.errors import TalkgenError
    from talkgen.metrics.footage import Footage
    from talkgen.metrics.identity_source import open_identity_source, warps_of

    identity = open_identity_source(RECOGNISER)
    gallery = None
    if not isinstance(identity, TalkgenError):
        middles = [len(clip.frames) // 2 for clip in clips]
        pairs = [(c.frames[m : m + 1], c.landmarks[m : m + 1]) for c, m in zip(clips, middles, strict=True)]
        gallery = torch.cat([identity(frames, warps_of(points)) for frames, points in pairs])
    rows: list[list[str]] = [["", *(headings(metrics()))]]
    for name, change in damages().items():
        row = metrics()
        for number, clip in enumerate(clips):
            damaged = change(clip.frames, clip.landmarks)
            truth, points = clip.frames, clip.landmarks
            if name == EXCHANGED:
                damaged = clips[(number + 1) % len(clips)].frames
                count = min(len(damaged), len(truth))
                damaged, truth, points = damaged[:count], truth[:count], points[:count]
            found = points if damaged is truth else source(damaged)
            vectors = None
            if not isinstance(identity, TalkgenError):
                vectors = identity(damaged, warps_of(found))
            footage = Footage(
                number,
                damaged,
                truth,
                points[:, 48:],
                found,
                points,
                identities=vectors,
                gallery=gallery,
                wanted=None if gallery is None else number,
            )
            for metric in row:
                metric.update(footage)
        rows.append([name, *cells(row, files)])
    return [list(line) for line in zip(*rows, strict=True)]


def sound_table(clips: list[Clip], files: list[Path], expert: str | None) -> list[list[str]]:
    """A row a metric, a column a shift; the first row has the names."""
    from talkgen.metrics.footage import Footage

    rows: list[list[str]] = [["sound late by, frames", *headings(sync_metrics(expert))]]
    for shift in (*SHIFTS, None):
        row = sync_metrics(expert)
        for number, clip in enumerate(clips):
            frames, points, sound = clip.frames, clip.landmarks, clip.sound
            if shift is None:
                other = clips[(number + 1) % len(clips)].sound
                count = min(len(other) // 640, len(frames))
                frames, points, sound = frames[:count], points[:count], other[: count * 640]
            else:
                sound = shifted(sound, shift * 640)
            footage = Footage(number, frames, frames, None, points, points, sound=sound)
            for metric in row:
                metric.update(footage)
        rows.append(["other sound" if shift is None else f"{shift:+d}", *cells(row, files)])
    return [list(line) for line in zip(*rows, strict=True)]


def shifted(sound: Tensor, samples: int) -> Tensor:
    """Late by so many samples (early below 0); silence where there is nothing."""
    moved = torch.zeros_like(sound)
    if samples >= 0:
        moved[samples:] = sound[: len(sound) - samples]
    else:
        moved[:samples] = sound[-samples:]
    return moved


def headings(row: list[Any]) -> list[str]:
    """Columns with the direction that is better."""
    arrows = {True: " ↑", False: " ↓", None: ""}
    return [f"{metric.column}{arrows[metric.higher_is_better]}" for metric in row]


def cells(row: list[Any], files: list[Path]) -> list[str]:
    """What the metrics say."""
    from talkgen.metrics.table import measured_cell

    ids = [file.stem for file in files]
    found = [measured_cell(metric, ids) for metric in row]
    return [
        f"{cell.value:.{metric.digits}f}" if cell.value is not None else "n/a"
        for cell, metric in zip(found, row, strict=True)
    ]


def show(table: list[list[str]]) -> None:
    """As markdown."""
    print(f"| {' | '.join(table[0])} |")
    print("|---|" + "---:|" * (len(table[0]) - 1))
    for line in table[1:]:
        if any(cell != "n/a" for cell in line[1:]):
            print(f"| {' | '.join(line)} |")


def main() -> None:
    """Print the tables."""
    from talkgen.errors import TalkgenError
    from talkgen.metrics.landmark_source import open_landmark_source

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sync-expert", help="run of experiment=evaluation_sync_expert")
    chosen = parser.parse_args()
    source = open_landmark_source()
    if isinstance(source, TalkgenError):
        raise SystemExit(str(source))
    clips = []
    for file in chosen.clips:
        frames, sound = read(file, chosen.frames, chosen.size)
        clips.append(Clip(frames, source(frames), sound))
    pictures = picture_table(clips, chosen.clips, source)
    pictures[0][0] = f"{len(clips)} clip(s) of {chosen.frames} frames, {chosen.size} px"
    sounds = sound_table(clips, chosen.clips, chosen.sync_expert)
    show(pictures)
    print()
    show(sounds)


if __name__ == "__main__":
    main()
