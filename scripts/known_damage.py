#!/usr/bin/env python
"""What every metric says about damage whose direction is known.

    python scripts/known_damage.py CLIP.mp4 [CLIP.mp4 …] [--frames 50] [--size 256]

Damages clips of talking faces (blur, JPEG, trembling, flicker, a frozen mouth, dropped blinks, another
person's frames) and prints a table: one line a metric, mean over the clips.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

Clip = tuple[Tensor, Tensor]
"""Frames uint8 (t, h, w, 3), landmarks (t, 68, 2)."""


def damages() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Name → (frames, landmarks) → frames."""
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
    }


def metrics() -> list[Any]:
    """One of each kind that needs no sound and no gallery."""
    from talkgen.metrics.blinks import BlinkRateError
    from talkgen.metrics.cpbd import CPBD, CPBDDifference
    from talkgen.metrics.fid import FID, KID
    from talkgen.metrics.jerk import JerkRatio
    from talkgen.metrics.lmd import LMD
    from talkgen.metrics.lpips import LPIPS, TLPIPS
    from talkgen.metrics.mouth_opening import MouthOpeningAmplitude, MouthOpeningCorrelation
    from talkgen.metrics.niqe import NIQE
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
        JerkRatio(),
        WarpingError(),
        TOF(),
        TLPIPS(),
    ]


def read(file: Path, frames: int, size: int) -> Tensor:
    """The first frames of a square video, shrunk."""
    from talkgen.video.reader import read_frames

    pictures = itertools.islice(read_frames(file, fps=25), frames)
    resized = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in pictures]
    return torch.from_numpy(np.stack(resized))


def main() -> None:
    """Print the table."""
    from talkgen.errors import TalkgenError
    from talkgen.metrics.footage import Footage
    from talkgen.metrics.landmark_source import open_landmark_source
    from talkgen.metrics.table import measured_cell

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--size", type=int, default=256)
    chosen = parser.parse_args()
    source = open_landmark_source()
    if isinstance(source, TalkgenError):
        raise SystemExit(str(source))
    clips: list[Clip] = []
    for file in chosen.clips:
        frames = read(file, chosen.frames, chosen.size)
        clips.append((frames, source(frames)))
    columns: dict[str, list[str]] = {}
    for name, change in damages().items():
        row = metrics()
        for number, (frames, points) in enumerate(clips):
            damaged = change(frames, points)
            found = points if damaged is frames else source(damaged)
            footage = Footage(number, damaged, frames, points[:, 48:], found, points)
            for metric in row:
                metric.update(footage)
        ids = [file.stem for file in chosen.clips]
        cells = [measured_cell(metric, ids) for metric in row]
        columns[name] = [
            f"{cell.value:.{metric.digits}f}" if cell.value is not None else "n/a"
            for cell, metric in zip(cells, row, strict=True)
        ]
    print(f"| {len(clips)} clip(s) of {chosen.frames} frames, {chosen.size} px | {' | '.join(columns)} |")
    print("|---|" + "---:|" * len(columns))
    for place, metric in enumerate(metrics()):
        arrow = {True: " ↑", False: " ↓", None: ""}[metric.higher_is_better]
        values = " | ".join(column[place] for column in columns.values())
        print(f"| {metric.column}{arrow} | {values} |")


if __name__ == "__main__":
    main()
