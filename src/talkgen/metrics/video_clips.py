"""Clips for an evaluation that are files: any folder of videos beside its ground truth, ours or another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.audio.alignment import sample_range
from talkgen.audio.waveform import load_waveform
from talkgen.data.clip import Clip
from talkgen.data.windows import resize_frames
from talkgen.errors import FileError
from talkgen.faces.alignment import crop_matrices
from talkgen.faces.crop import CropSettings, crop_frame
from talkgen.metrics.footage import MOUTH_POINTS
from talkgen.video.reader import VideoInfo, probe, read_frames

_info: Callable[[Path], VideoInfo] = lru_cache(maxsize=4096)(probe)

SHORT_FRAMES = 2
"""A stream may end so many frames before its container says; the last one then stands for them."""


@dataclass(frozen=True)
class VideoFile:
    """One clip: where its true frames and its sound are.

    Attributes:
        id: unique in the evaluation.
        video: file with the true frames.
        identity: who is seen in it.
        audio: file whose sound drove the generated frames; None: that of ``video``.
        start_seconds, end_seconds: the stretch of ``video`` that is meant; None: to the end.
        audio_start_seconds: where the sound begins in ``audio``.
        wanted: who should be seen in the generated frames; None: who is seen in the true ones.
    """

    id: str
    video: Path
    identity: str
    audio: Path | None = None
    start_seconds: float = 0.0
    end_seconds: float | None = None
    audio_start_seconds: float = 0.0
    wanted: str | None = None

    def frames(self, fps: float) -> FrameStream:
        """The true frames."""
        return FrameStream(self.video, fps, self.start_seconds, self.end_seconds)


class FrameStream:
    """Frames of a file in order, piece by piece; asked for an earlier piece it begins again.

    Args:
        file: any video.
        fps: frames a second that are taken, by what a player shows.
        start_seconds, end_seconds: stretch of the file; None: to the end.
    """

    def __init__(
        self, file: Path, fps: float, start_seconds: float = 0.0, end_seconds: float | None = None
    ) -> None:
        self.file = file
        self.fps = fps
        self.start_seconds = start_seconds
        self.end_seconds = end_seconds
        self._frames: Iterator[NDArray[np.uint8]] = iter(())
        self._next = -1
        self._last: NDArray[np.uint8] | None = None

    @cached_property
    def count(self) -> int:
        """Frames that the container states."""
        end = _info(self.file).seconds
        if self.end_seconds is not None:
            end = min(end, self.end_seconds)
        return max(1, round((end - self.start_seconds) * self.fps))

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """uint8 RGB (stop − start, h, w, 3).

        Raises:
            FileError: the stream ends too early.
        """
        if self._next != start:
            self._frames, self._next = read_frames(self.file, self.fps, self.start_seconds), 0
            for frame in islice(self._frames, start):
                self._last, self._next = frame, self._next + 1
        frames = list(islice(self._frames, stop - start))
        self._next += len(frames)
        if frames:
            self._last = frames[-1]
        missing = stop - self._next
        if missing > SHORT_FRAMES or self._last is None:
            raise FileError(self.file, f"ends after {self._next} frames; its container states {self.count}")
        self._next = stop
        return np.stack([*frames, *[self._last] * missing])


class VideoClips:
    """Files in order, in the manner of :class:`talkgen.metrics.held_out.HeldOutClips`.

    Args:
        files: the clips.
        limits: frames of each that are scored: what the shortest row has.
        fps: at which all are read.
        height: pixels that frames are resized to, in their own shape; None keeps each as it is.
        crop: cuts the face out of truth and generated frames alike, by the landmarks of the truth; None takes
            whole frames.
        detect: frames → landmarks (t, 68, 2), for ``crop``.
        piece: frames read at a time.
    """

    def __init__(
        self,
        files: Sequence[VideoFile],
        limits: Sequence[int],
        fps: float = 25.0,
        height: int | None = None,
        crop: CropSettings | None = None,
        detect: Callable[[Tensor], Tensor] | None = None,
        piece: int = 32,
    ) -> None:
        if crop is not None and detect is None:
            raise ValueError("a crop needs a detector")
        self.files = list(files)
        self.limits = list(limits)
        self.fps = fps
        self.height = height
        self.crop = crop
        self.detect = detect
        self.piece = piece
        sizes = [self.frame_size(number)[0] for number in range(len(files))]
        self.clips = [
            Clip(file.id, "videos", "test", file.identity, limit, fps, size)
            for file, limit, size in zip(files, limits, sizes, strict=True)
        ]
        self._stream = lru_cache(maxsize=1)(self._open)
        self._read = lru_cache(maxsize=1)(self._read_piece)
        self._heard = lru_cache(maxsize=2)(self._load_sound)
        self._matrices = lru_cache(maxsize=2)(self._find_matrices)

    def __len__(self) -> int:
        return len(self.files)

    def frame_count(self, number: int) -> int:
        """Frames of a clip that are scored."""
        return self.limits[number]

    def frame_size(self, number: int) -> tuple[int, int]:
        """Height and width of a clip's frames."""
        if self.crop is not None:
            return self.crop.size, self.crop.size
        info = _info(self.files[number].video)
        if self.height is None:
            return info.height, info.width
        return self.height, round(info.width * self.height / info.height)

    def spans(self, number: int) -> Iterator[tuple[int, int]]:
        """First and last-but-one frame of each piece of a clip."""
        count = self.frame_count(number)
        for start in range(0, count, self.piece):
            yield start, min(start + self.piece, count)

    def frames(self, number: int, start: int, stop: int) -> Tensor:
        """uint8 RGB (stop - start, h, w, 3) of the truth; not to be written to."""
        return self._read(number, start, stop)

    def _open(self, number: int) -> FrameStream:
        return self.files[number].frames(self.fps)

    def _read_piece(self, number: int, start: int, stop: int) -> Tensor:
        return self.fitted(number, start, self._stream(number).read(start, stop))

    def fitted(self, number: int, start: int, frames: NDArray[np.uint8]) -> Tensor:
        """Frames of a clip, from ``start`` on, brought to the size and crop of the truth."""
        info = _info(self.files[number].video)
        if self.crop is not None:
            frames = _sized(frames, info.height, info.width)
            matrices = self._matrices(number)[start : start + len(frames)]
            pairs = zip(frames, matrices, strict=True)
            frames = np.stack([crop_frame(frame, matrix, self.crop.size) for frame, matrix in pairs])
        return torch.from_numpy(_sized(frames, *self.frame_size(number)))

    def _find_matrices(self, number: int) -> NDArray[np.float32]:
        assert self.detect is not None and self.crop is not None
        stream = self.files[number].frames(self.fps)
        found = [self.detect(torch.from_numpy(stream.read(*span))) for span in self.spans(number)]
        points = torch.cat(found).numpy()
        try:
            return crop_matrices(points, self.crop, self.fps)
        except ValueError as error:
            raise FileError(
                self.files[number].video, "shows no face that could be cut out; give crop=null"
            ) from error

    def landmarks(self, number: int, start: int, stop: int) -> Tensor | None:
        """None: files know no landmarks; the table's own detector looks for them."""
        return None

    def mouth_points(self, number: int, start: int, stop: int) -> Tensor | None:
        """None, as :meth:`landmarks`."""
        points = self.landmarks(number, start, stop)
        return None if points is None else points[:, MOUTH_POINTS]

    def identity_warps(self, number: int, start: int, stop: int) -> NDArray[np.float32]:
        """NaN: where faces lie is known only once they are detected."""
        return np.full((stop - start, 2, 3), np.nan, np.float32)

    def sound(self, number: int, start: int, stop: int) -> Tensor | None:
        """The sound that drove some frames, float32 in [-1, 1] at 16 kHz; silence beyond its end."""
        waveform = self._heard(number)
        if waveform is None:
            return None
        samples = sample_range(start, stop - start, self.fps)
        found = torch.zeros(samples.stop - samples.start)
        part = waveform[samples.start : samples.stop]
        found[: len(part)] = torch.from_numpy(part)
        return found

    def waveform(self, number: int) -> NDArray[np.float32]:
        """The sound of the scored frames; silence where there is none."""
        sound = self.sound(number, 0, self.frame_count(number))
        seconds = self.frame_count(number) / self.fps
        return np.zeros(round(seconds * 16000), np.float32) if sound is None else sound.numpy()

    def _load_sound(self, number: int) -> NDArray[np.float32] | None:
        file = self.files[number]
        if file.audio is not None:
            return load_waveform(file.audio, start_seconds=file.audio_start_seconds)
        if not _info(file.video).has_audio:
            return None
        return load_waveform(file.video, start_seconds=file.start_seconds)


def _sized(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if frames.shape[1:3] == (height, width):
        return frames
    if height == width == frames.shape[1] == frames.shape[2]:
        return resize_frames(frames, height)
    import cv2

    method = cv2.INTER_AREA if frames.shape[1] > height else cv2.INTER_CUBIC
    resized = [cv2.resize(frame, (width, height), interpolation=method) for frame in frames]
    return np.stack(resized).astype(np.uint8, copy=False)
