"""Write a target video whose face a model has changed, at its own resolution and frame rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.faces.blending import paste_back
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
    """Read, change, paste back, write; frames without a face go through as they are.

    Args:
        video: the target.
        order: numbers of its frames as they shall be shown.
        change: the model.
        mask: (size, size), which part of a generated crop is put into the frame.
        scale: side of a generated crop over that of the target's own crops.
        out: file to write; it appears complete or not at all.
        audio: file with the sound.
        batch_frames: frames that are in memory, and that the model is given, at a time.
        label: visible text in the corner of every frame.
        crf: H.264 quality.
        progress: show a bar.
        watermark: whether the frames bear the invisible watermark of generated video.

    Returns:
        The file and what is in it.
    """
    matrices = scaled(video.matrices, scale)
    frames = video.read(order)
    with (
        VideoWriter(
            out, video.fps, video.width, video.height, crf, audio, synthetic=True, watermark=watermark
        ) as writer,
        tqdm(total=len(order), unit="frame", desc="generating", disable=not progress) as bar,
    ):
        for start in range(0, len(order), batch_frames):
            numbers = order[start : start + batch_frames]
            held = [next(frames) for _ in numbers]
            places = np.flatnonzero(video.has_face[numbers])
            if len(places):
                seen = [held[place] for place in places]
                made = change(seen, numbers[places], [start + int(place) for place in places])
                for place, crop in zip(places, made, strict=True):
                    held[place] = paste_back(held[place], crop, matrices[numbers[place]], mask)
            for frame in held:
                writer.write(put_label(frame, label) if label else frame)
            bar.update(len(numbers))
    return Written(out, len(order), int((~video.has_face[order]).sum()), video.fps)
