"""Diff2Lip as its published script behaves, faults included, for numbers to be compared with its own.

What differs from ``talkgen.inference.diff2lip_video``: the video is brought to 25 frames a second; boxes are
averaged over frames i … i + 4, which leads the face by two frames; the reference is the frame itself, lips
and all; frames without a whole mel window at the end are dropped; the whole box is put back, its untouched
upper half resampled as well, without a soft rim; pixels are truncated, not rounded; a frame without a face
stops everything. Two things are better than there: frames do not go through JPEG, and the codec gets the bits
that its quality needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.audio.alignment import per_frame_mel_window
from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import load_waveform
from talkgen.data.windows import as_model
from talkgen.errors import FileError
from talkgen.faces.detection import FaceDetector, make_detector
from talkgen.inference.changed_video import Written
from talkgen.inference.diff2lip import Diff2Lip
from talkgen.inference.pipeline import prefetch
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import VideoWriter

FPS = 25.0
MEL_STEPS = 16


@dataclass(frozen=True)
class Boxes:
    """One box a frame, in whole pixels.

    Attributes:
        corners: int64 (frames, 4): ``x0 y0 x1 y1``, the last ones excluded.
    """

    corners: NDArray[np.int64]

    def cut(self, number: int, frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        """What the network sees of a frame: the box stretched to a square."""
        x0, y0, x1, y1 = self.corners[number]
        return np.asarray(cv2.resize(frame[y0:y1, x0:x1], (size, size)), np.uint8)

    def put(self, number: int, frame: NDArray[np.uint8], made: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame with all of its box replaced; a new array."""
        x0, y0, x1, y1 = (int(value) for value in self.corners[number])
        result = frame.copy()
        result[y0:y1, x0:x1] = cv2.resize(made, (x1 - x0, y1 - y0))
        return result


def leading_average(boxes: NDArray[np.int64], window: int = 5) -> NDArray[np.int64]:
    """Boxes averaged over frames i … i + 4 in place, truncated to whole pixels.

    The last ones are averages of a window at the end of which earlier ones are averages already.
    """
    smoothed = boxes.copy()
    for i in range(len(smoothed)):
        first = min(i, max(len(smoothed) - window, 0))
        smoothed[i] = smoothed[first : first + window].mean(0)
    return smoothed


def voxceleb2_box(height: int, width: int) -> NDArray[np.int64]:
    """The part of a VoxCeleb2 frame that the network was trained on, wherever the face is."""
    side = int(width * 1.8 / 8)
    return np.array([side, 0, width - side, height - int(height * 2.36 / 8)], np.int64)


def detected_boxes(file: str | Path, detector: FaceDetector, progress: bool = True) -> Boxes:
    """The most certain face of every frame, averaged.

    Raises:
        FileError: a frame has none.
    """
    found: list[NDArray[np.int64]] = []
    frames = tqdm(read_frames(file, FPS), unit="frame", desc="finding the face", disable=not progress)
    for number, frame in enumerate(frames):
        faces = detector.detect(frame)
        if not faces:
            raise FileError(file, f"has no face in frame {number}; official_compat=false goes on without one")
        height, width = frame.shape[:2]
        best = max(faces, key=lambda face: face.score).box
        found.append(np.clip(best, 0, (width, height, width, height)).astype(np.int64))
    if not found:
        raise FileError(file, "has no frames")
    return Boxes(leading_average(np.stack(found)))


def complete_windows(steps: int) -> int:
    """Frames whose whole mel window lies inside ``steps`` columns; those behind are dropped."""
    frames = 0
    while per_frame_mel_window(frames, FPS, "official").stop <= steps:
        frames += 1
    return frames


def truncated(pictures: torch.Tensor) -> NDArray[np.uint8]:
    """Pictures (n, 3, h, w) in [-1, 1] → uint8 (n, h, w, 3), fractions cut off."""
    scaled = (pictures.permute(0, 2, 3, 1).float() + 1).clamp(0, 2) * 127.5
    return scaled.numpy().astype(np.uint8)


def generate_official(
    model: Diff2Lip,
    target: str | Path,
    driving_audio: str | Path | None,
    out: str | Path,
    detector: str = "insightface",
    voxceleb2: bool = False,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> Written:
    """The published behaviour; see the module.

    Args:
        model: with DDIM of 25 steps, one noise map of seed 7 and ``cover="same"`` it is the published one.
        target: video.
        driving_audio: audio or video file; None takes the target's own sound.
        out: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        detector: the published one is S3FD (``face-alignment``).
        voxceleb2: take the fixed crop of VoxCeleb2's frames in place of a detector (published default).
        crf: H.264 quality.
        progress: show bars.
        watermark: whether the frames bear the invisible watermark of generated video.

    Raises:
        FileError: a file cannot be used, or a frame has no face.
    """
    waveform = load_waveform(driving_audio or target)
    mel = mel_spectrogram(waveform)
    info = probe(target)
    if voxceleb2:
        length = sum(1 for _ in read_frames(target, FPS))
        boxes = Boxes(np.tile(voxceleb2_box(info.height, info.width), (length, 1)))
    else:
        boxes = detected_boxes(target, make_detector(detector), progress)
    count = min(len(boxes.corners), complete_windows(mel.shape[1]))
    if count < 1:
        raise FileError(str(driving_audio or target), "its sound is shorter than one mel window (0.2 s)")
    pieces = prefetch(_generated(model, prefetch(_read(target, count, model.batch_frames)), boxes, mel))
    with (
        VideoWriter(
            Path(out),
            FPS,
            info.width,
            info.height,
            crf,
            (waveform, 16000),
            synthetic=True,
            watermark=watermark,
        ) as writer,
        tqdm(total=count, unit="frame", desc="generating", disable=not progress) as bar,
    ):
        for frames in pieces:
            for frame in frames:
                writer.write(frame)
            bar.update(len(frames))
    return Written(Path(out), count, 0, FPS)


def _read(file: str | Path, count: int, batch: int) -> Iterator[tuple[int, list[NDArray[np.uint8]]]]:
    frames = islice(read_frames(file, FPS), count)
    for start in range(0, count, batch):
        yield start, list(islice(frames, batch))


def _generated(
    model: Diff2Lip,
    pieces: Iterator[tuple[int, list[NDArray[np.uint8]]]],
    boxes: Boxes,
    mel: NDArray[np.float32],
) -> Iterator[list[NDArray[np.uint8]]]:
    for start, frames in pieces:
        numbers = range(start, start + len(frames))
        crops = [boxes.cut(n, frame, model.size) for n, frame in zip(numbers, frames, strict=True)]
        pictures = as_model(torch.from_numpy(np.stack(crops)))
        sounds = model.mel_of_frames(mel, numbers, FPS)
        made = truncated(model.sample(pictures, pictures, sounds, numbers))
        yield [boxes.put(n, *pair) for n, pair in zip(numbers, zip(frames, made, strict=True), strict=True)]
