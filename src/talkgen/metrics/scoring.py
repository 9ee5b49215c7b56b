"""Show contenders and metrics the clips, piece by piece, and keep pictures of what was seen."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.data.files import write_atomically
from talkgen.metrics.contenders import Contender
from talkgen.metrics.footage import Footage
from talkgen.metrics.held_out import HeldOutClips
from talkgen.metrics.landmark_source import LandmarkSource
from talkgen.metrics.pictures import contact_sheet, side_by_side
from talkgen.video.writer import VideoWriter

SHEET_CLIPS = 6
"""Clips on the contact sheet."""


class FootageMetric(Protocol):
    """A metric of this package that looks at frames."""

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip."""


def score(
    contenders: Sequence[Contender],
    metrics: Sequence[Sequence[FootageMetric]],
    clips: HeldOutClips,
    landmarks: LandmarkSource | None,
    out: Path,
) -> None:
    """Show every metric of every contender all clips, in constant memory.

    Each frame is made once and detected once, whatever the number of metrics. Also writes ``sheet.png`` and
    ``sample.mp4``: the first clip with its sound, contenders that are ``in_video`` side by side.

    Args:
        contenders: the first must be the ground truth.
        metrics: those of each contender.
        clips: what is scored.
        landmarks: detector, or None where its weights are missing.
        out: folder for the pictures.
    """
    sheet: list[tuple[str, list[NDArray[np.uint8]]]] = []
    total = sum(clips.frame_count(number) for number in range(len(clips)))
    with tqdm(total=total, unit="frame", desc="scoring", mininterval=0.5) as progress:
        for number, clip in enumerate(clips.clips):
            middle = clips.frame_count(number) // 2
            streams = [contender.generate(clips, number) for contender in contenders]
            with contextlib.ExitStack() as stack:
                video = stack.enter_context(_sample_video(out, contenders, clips)) if number == 0 else None
                for (start, stop), *pieces in zip(clips.spans(number), *streams, strict=True):
                    truth = pieces[0].frames
                    mouth = clips.mouth_points(number, start, stop)
                    true_points = landmarks(truth) if landmarks else None
                    for piece, row in zip(pieces, metrics, strict=True):
                        points = true_points
                        if landmarks and piece.frames is not truth:
                            points = landmarks(piece.frames)
                        footage = Footage(
                            number, piece.frames, truth, mouth, points, true_points, piece.codes
                        )
                        for metric in row:
                            metric.update(footage)
                    pictures = [piece.frames.numpy() for piece in pieces]
                    if video is not None:
                        shown = [p for p, one in zip(pictures, contenders, strict=True) if one.in_video]
                        for frames in zip(*shown, strict=True):
                            video.write(side_by_side(frames))
                    if len(sheet) < SHEET_CLIPS and start <= middle < stop:
                        sheet.append((clip.id, [picture[middle - start] for picture in pictures]))
                    progress.update(stop - start)
    _, png = cv2.imencode(".png", contact_sheet([one.name for one in contenders], sheet)[..., ::-1])
    write_atomically(out / "sheet.png", png.tobytes())


def _sample_video(out: Path, contenders: Sequence[Contender], clips: HeldOutClips) -> VideoWriter:
    width = clips.size * sum(contender.in_video for contender in contenders)
    sound = (clips.waveform(0), 16000)
    return VideoWriter(out / "sample.mp4", clips.clips[0].fps, width, clips.size, audio=sound, synthetic=True)
