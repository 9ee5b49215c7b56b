"""What is scored in a table: one contender a row. Here are the rows that need no model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from talkgen.data.windows import resize_frames
from talkgen.metrics.exact_motion import ExactMotion
from talkgen.metrics.footage import CodeIndices
from talkgen.metrics.held_out import HeldOutClips
from talkgen.metrics.video_clips import FrameStream, VideoClips
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
        motion: the coefficients behind the frames beside the exact ones, where both are known.
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
    motion: ExactMotion | None = None


Clips = HeldOutClips | VideoClips
"""What can be scored: clips of a prepared corpus, or files."""


class Contender(Protocol):
    """Something that makes frames for each clip; ``in_video`` says whether the sample video shows it."""

    name: str
    in_video: bool

    def generate(self, clips: Any, number: int) -> Iterator[Generated]:
        """The frames of clip ``number``, in the pieces of ``clips.spans(number)``.

        ``clips`` are ``HeldOutClips``, or ``VideoClips`` for rows of files.
        """


class GroundTruth:
    """The clips themselves: what a perfect model would score."""

    name = "ground truth"
    in_video = True

    def generate(self, clips: Clips, number: int) -> Iterator[Generated]:
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

    def generate(self, clips: Clips, number: int) -> Iterator[Generated]:
        """The frames as they come back from the encoded file, which lies in a temporary folder."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            height, width = clips.frame_size(number)
            with VideoWriter(file, clips.clips[number].fps, width, height, self.crf) as writer:
                for start, stop in clips.spans(number):
                    for frame in clips.frames(number, start, stop).numpy():
                        writer.write(frame)
            decoded = read_frames(file)
            for start, stop in clips.spans(number):
                # An odd size was padded by the encoder.
                frames = [next(decoded)[:height, :width] for _ in range(start, stop)]
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

    def generate(self, clips: Clips, number: int) -> Iterator[Generated]:
        """The frames as they are."""
        for start, stop in clips.spans(number):
            frames = clips.frames(number, start, stop)
            yield Generated(frames, sound=self.sound(number, start, stop), heard_only=True)


class FirstFrame:
    """The first frame of each clip in all of them: what a model that never moves would score."""

    name = "first frame held"
    in_video = False

    def generate(self, clips: Clips, number: int) -> Iterator[Generated]:
        """One picture."""
        held = clips.frames(number, 0, next(iter(clips.spans(number)))[1])[:1].clone()
        for start, stop in clips.spans(number):
            yield Generated(held.expand(stop - start, -1, -1, -1).contiguous())


class VideoRow:
    """Videos that somebody made: one file a clip.

    Args:
        name: of the row.
        files: for each clip its video, None where there is none (the clip then does not count).
        own_sound: clip for clip, whether the lips should be those of the true video.
    """

    in_video = True

    def __init__(self, name: str, files: Sequence[Path | None], own_sound: Sequence[bool]) -> None:
        self.name = name
        self.files = files
        self.own_sound = own_sound

    def generate(self, clips: VideoClips, number: int) -> Iterator[Generated]:
        """The frames, at the size and crop of the truth; the truth, not scored, where there are none."""
        file = self.files[number]
        stream = None if file is None else FrameStream(file, clips.fps)
        for start, stop in clips.spans(number):
            if stream is None:
                yield Generated(clips.frames(number, start, stop), scored=False)
                continue
            frames = clips.fitted(number, start, stream.read(start, stop))
            wanted = clips.files[number].wanted
            yield Generated(frames, truth_known=self.own_sound[number], person=wanted)


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
