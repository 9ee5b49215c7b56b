"""What is scored in a table: one contender a row. Here are the two rows that every table has."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from talkgen.metrics.footage import CodeIndices
from talkgen.metrics.held_out import HeldOutClips
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter


@dataclass(frozen=True)
class Generated:
    """What a contender made of one piece of a clip.

    Attributes:
        frames: uint8 (t, h, w, 3).
        codes: the codes behind them, if any.
        truth: what the frames should be, where that is not the clip itself (a face swap whose result is
            known).
        truth_known: False where nobody knows what they should be.
        person: who should be seen, where that is not the clip's own identity.
        scored: False leaves the piece out of the row's numbers (it is still shown in pictures).
    """

    frames: Tensor
    codes: Mapping[str, CodeIndices] = field(default_factory=dict)
    truth: Tensor | None = None
    truth_known: bool = True
    person: str | None = None
    scored: bool = True


class Contender(Protocol):
    """Something that makes frames for each clip; ``in_video`` says whether the sample video shows it."""

    name: str
    in_video: bool

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """The frames of clip ``number``, in the pieces of ``clips.spans(number)``."""


class GroundTruth:
    """The clips themselves: what a perfect model would score."""

    name = "ground truth"
    in_video = True

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """The frames as they are."""
        for start, stop in clips.spans(number):
            yield Generated(clips.frames(number, start, stop))


class Reencoded:
    """Ground truth after H.264: differences below this row's are noise of codec and detector.

    Args:
        crf: quality of the encoder.
    """

    in_video = False  # nobody would see the difference

    def __init__(self, crf: int = 18) -> None:
        self.crf = crf
        self.name = f"ground truth, H.264 crf {crf}"

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """The frames as they come back from the encoded file, which lies in a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            with VideoWriter(file, clips.clips[number].fps, clips.size, clips.size, self.crf) as writer:
                for start, stop in clips.spans(number):
                    for frame in clips.frames(number, start, stop).numpy():
                        writer.write(frame)
            decoded = read_frames(file)
            for start, stop in clips.spans(number):
                # An odd size was padded by the encoder.
                frames = [next(decoded)[: clips.size, : clips.size] for _ in range(start, stop)]
                yield Generated(torch.from_numpy(np.stack(frames)))
