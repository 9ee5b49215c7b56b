"""Write target videos whose faces a model has changed, at their own resolution and frame rate.

Reading, the model, and pasting with encoding run side by side, each a piece ahead of the next; memory does
not grow with the length of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.faces.blending import paste_back
from talkgen.inference.pipeline import prefetch
from talkgen.inference.target_video import TargetVideo, put_label, scaled
from talkgen.video.writer import VideoWriter

Change = Callable[[Sequence[NDArray[np.uint8]], NDArray[np.int64], Sequence[int]], NDArray[np.uint8]]
"""Whole frames of the target that show the face, their numbers in the target, their numbers in what is
written → generated crops (n, size, size, 3)."""


@dataclass(frozen=True)
class Written:
    """What was generated.

    Attributes:
        file: the video.
        frames: how many it has.
        without_face: how many of them show no face, and are as they were.
        fps: frames a second.
    """

    file: Path
    frames: int
    without_face: int
    fps: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.fps


@dataclass(frozen=True, eq=False)
class VideoJob:
    """One video to be written.

    Attributes:
        video: the target.
        order: numbers of its frames as they shall be shown.
        out: file to write; it appears complete or not at all.
        audio: file with the sound.
        state: whatever the model needs of this video; handed on.
    """

    video: TargetVideo
    order: NDArray[np.int64]
    out: Path
    audio: str | Path | None = None
    state: Any = None

    @property
    def written(self) -> Written:
        """What it will be."""
        missed = int((~self.video.has_face[self.order]).sum())
        return Written(self.out, len(self.order), missed, self.video.fps)


@dataclass(frozen=True, eq=False)
class ShownFrame:
    """One frame of a job.

    Attributes:
        job: which video.
        place: its number in what is written.
        number: its number in the target.
        frame: the whole frame.
    """

    job: VideoJob
    place: int
    number: int
    frame: NDArray[np.uint8]

    @property
    def has_face(self) -> bool:
        """Whether the model is shown it."""
        return bool(self.job.video.has_face[self.number])


ChangeFrames = Callable[[Sequence[ShownFrame]], NDArray[np.uint8]]
"""Frames with a face, in order, perhaps of several videos → generated crops (n, size, size, 3)."""


@dataclass
class _Piece:
    """Some frames in order, and the generated crops of those with a face."""

    frames: list[ShownFrame] = field(default_factory=list)
    faces: int = 0
    crops: NDArray[np.uint8] | None = None


def write_jobs(
    jobs: Iterable[VideoJob],
    change: ChangeFrames,
    mask: NDArray[np.float32],
    scale: float,
    batch_frames: int = 20,
    label: str | None = None,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> Iterator[Written]:
    """Read, change, paste back, write video after video; frames without a face go through as they are.

    The model's batches run across videos, so that short clips fill them as well as long ones. At most five
    pieces of ``2 · batch_frames`` frames or fewer are in memory.

    Args:
        jobs: the videos; taken one by one, while those before are worked on.
        change: the model.
        mask: (size, size), which part of a generated crop is put into the frame.
        scale: side of a generated crop over that of the target's own crops.
        batch_frames: frames that the model is given at a time.
        label: visible text in the corner of every frame.
        crf: H.264 quality.
        progress: show a bar.
        watermark: whether the frames bear the invisible watermark of generated video.

    Yields:
        Each file, when it is complete, and what is in it.
    """
    pieces = prefetch(_changed(prefetch(_pieces(jobs, batch_frames)), change))
    with tqdm(unit="frame", desc="generating", disable=not progress) as bar:
        for job, pasted in groupby(_pasted(pieces, mask, scale), key=lambda one: one[0]):
            video = job.video
            bar.total = (bar.total or 0) + len(job.order)
            size = video.width, video.height
            with VideoWriter(
                job.out, video.fps, *size, crf, job.audio, synthetic=True, watermark=watermark
            ) as writer:
                for _, frame in pasted:
                    writer.write(put_label(frame, label) if label else frame)
                    bar.update()
            yield job.written


def _pieces(jobs: Iterable[VideoJob], batch_frames: int) -> Iterator[_Piece]:
    piece = _Piece()
    for job in jobs:
        for place, (number, frame) in enumerate(zip(job.order, job.video.read(job.order), strict=True)):
            shown = ShownFrame(job, place, int(number), frame)
            piece.frames.append(shown)
            piece.faces += shown.has_face
            if piece.faces == batch_frames or len(piece.frames) == 2 * batch_frames:
                yield piece
                piece = _Piece()
    if piece.frames:
        yield piece


def _changed(pieces: Iterable[_Piece], change: ChangeFrames) -> Iterator[_Piece]:
    for piece in pieces:
        if piece.faces:
            piece.crops = change([shown for shown in piece.frames if shown.has_face])
        yield piece


def _pasted(
    pieces: Iterable[_Piece], mask: NDArray[np.float32], scale: float
) -> Iterator[tuple[VideoJob, NDArray[np.uint8]]]:
    for piece in pieces:
        crops = iter([] if piece.crops is None else piece.crops)
        piece.frames.reverse()
        while piece.frames:  # what is written is let go of: the stages before still hold the piece
            shown = piece.frames.pop()
            frame = shown.frame
            if shown.has_face:
                matrix = scaled(shown.job.video.matrices[shown.number], scale)
                frame = paste_back(frame, next(crops), matrix, mask)
            yield shown.job, frame


def write_changed(
    video: TargetVideo,
    order: NDArray[np.int64],
    change: Change,
    mask: NDArray[np.float32],
    scale: float,
    out: Path,
    audio: str | Path | None = None,
    batch_frames: int = 20,
    label: str | None = None,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> Written:
    """One video; see ``write_jobs``.

    Args:
        video: the target.
        order: numbers of its frames as they shall be shown.
        change: the model.
        mask: (size, size), which part of a generated crop is put into the frame.
        scale: side of a generated crop over that of the target's own crops.
        out: file to write; it appears complete or not at all.
        audio: file with the sound.
        batch_frames: frames that the model is given at a time.
        label: visible text in the corner of every frame.
        crf: H.264 quality.
        progress: show a bar.
        watermark: whether the frames bear the invisible watermark of generated video.

    Returns:
        The file and what is in it.
    """
    job = VideoJob(video, order, out, audio)
    (written,) = write_jobs(
        [job], partial(_change_one, change), mask, scale, batch_frames, label, crf, progress, watermark
    )
    return written


def _change_one(change: Change, shown: Sequence[ShownFrame]) -> NDArray[np.uint8]:
    numbers = np.array([one.number for one in shown])
    return change([one.frame for one in shown], numbers, [one.place for one in shown])
