"""What is scored in a table: one contender a row. Here are the rows that need no model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from talkgen.data.windows import resize_frames
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
        sound: what drove the frames, float32 in [-1, 1] at 16 kHz, where that is not the clip's own sound.
        heard_only: only metrics that listen look at the piece; the frames alone say nothing new.
    """

    frames: Tensor
    codes: Mapping[str, CodeIndices] = field(default_factory=dict)
    truth: Tensor | None = None
    truth_known: bool = True
    person: str | None = None
    scored: bool = True
    sound: Tensor | None = None
    heard_only: bool = False


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


class OtherSound:
    """Ground truth beside the sound of another clip: what sync columns say where nothing belongs together.

    Args:
        sound: (clip number, start, stop) → the other sound of these frames.
    """

    name = "ground truth, another clip's sound"
    in_video = False

    def __init__(self, sound: Callable[[int, int, int], Tensor | None]) -> None:
        self.sound = sound

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """The frames as they are."""
        for start, stop in clips.spans(number):
            frames = clips.frames(number, start, stop)
            yield Generated(frames, sound=self.sound(number, start, stop), heard_only=True)


class AtSize:
    """A contender that works at another frame size than the table: its frames are enlarged or shrunk.

    Args:
        contender: at its own size.
        own: the same clips at its size, in the same pieces.
    """

    def __init__(self, contender: Contender, own: HeldOutClips) -> None:
        self.contender = contender
        self.own = own
        self.name = contender.name
        self.in_video = contender.in_video

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """What the contender makes, at the size of ``clips``."""
        for piece in self.contender.generate(self.own, number):
            truth = None if piece.truth is None else _resized(piece.truth, clips.size)
            yield replace(piece, frames=_resized(piece.frames, clips.size), truth=truth)


def _resized(frames: Tensor, size: int) -> Tensor:
    return torch.from_numpy(resize_frames(frames.numpy(), size))
