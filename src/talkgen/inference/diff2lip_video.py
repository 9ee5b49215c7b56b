"""Diff2Lip from files to files: a video whose lips say what is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.audio.alignment import frames_in
from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.waveform import load_waveform
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.crop import crop_frame
from talkgen.faces.detection import FaceDetector, make_detector
from talkgen.faces.mask import lower_half_mask
from talkgen.faces.tracking import FaceTrack, smooth
from talkgen.inference.changed_video import ShownFrame, VideoJob, Written, write_jobs
from talkgen.inference.diff2lip import Diff2Lip
from talkgen.inference.reference_frames import ReferenceFrames, choose_references
from talkgen.inference.silence import silence_pauses
from talkgen.inference.target_video import face_region, follow_face, ping_pong

Place = Callable[[FaceTrack, float], NDArray[np.float32]]
"""A track and the frame rate → float32 (frames, 2, 3), frame pixels → crop pixels."""

FEATHER = 0.08  # of the crop's side, where the whole masked part is put back


@dataclass(frozen=True)
class Dubbing:
    """The files of one video.

    Attributes:
        target: video that gives everything but the lips.
        audio: audio or video file with the speech; None: the target's own.
        out: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
    """

    target: Path
    audio: Path | None
    out: Path


@dataclass(frozen=True, eq=False)
class _Heard:
    """What the network needs of one video.

    Attributes:
        mel: of the driving sound.
        references: which frame stands for which.
        crops: of the references, uint8 (n, size, size, 3).
    """

    mel: NDArray[np.float32]
    references: ReferenceFrames
    crops: NDArray[np.uint8]


def generate(
    model: Diff2Lip,
    target: str | Path,
    driving_audio: str | Path | None,
    out: str | Path,
    detector: str = "insightface",
    detect_every: int = 1,
    choose: str = "size",
    paste: str = "face",
    close_in_silence: bool = True,
    label: str | None = None,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> Written:
    """One video; see ``generate_many``."""
    dubbing = Dubbing(Path(target), None if driving_audio is None else Path(driving_audio), Path(out))
    (written,) = generate_many(
        model,
        [dubbing],
        detector,
        detect_every,
        choose,
        paste,
        close_in_silence,
        label,
        crf,
        progress,
        watermark,
    )
    return written


def generate_many(
    model: Diff2Lip,
    dubbings: Iterable[Dubbing],
    detector: str = "insightface",
    detect_every: int = 1,
    choose: str = "size",
    paste: str = "face",
    close_in_silence: bool = True,
    label: str | None = None,
    crf: float = 18,
    progress: bool = True,
    watermark: bool = True,
) -> Iterator[Written]:
    """Videos of the targets who say what is heard in the driving audio, one after the other.

    Each has its target's resolution and frame rate and lasts as long as the sound (the target is cut, or runs
    forwards and backwards until the sound ends), and its metadata says that it is synthetic. Only what the
    network generated is put back; frames in which no face is found stay as they are. The next face is
    followed while this one is generated, and the network's batches run across videos.

    Args:
        model: the network and how it is used.
        dubbings: the files.
        detector: name of a face detector.
        detect_every: look for faces in every so many frames only.
        choose: which face of several: ``size``, ``longest`` or ``index:N``.
        paste: put back the lower part of the ``face`` (an ellipse), or all of the ``crop``'s lower half.
        close_in_silence: quieten pauses of the sound, see ``silence_pauses``.
        label: visible text in the corner of every frame; None: only the metadata tell.
        crf: H.264 quality.
        progress: show bars.
        watermark: whether the frames bear the invisible watermark of generated video.

    Yields:
        Each file when it is complete, and what is in it.

    Raises:
        TalkgenError: a file cannot be used, or there is no face in it.
    """
    if paste not in ("face", "crop"):
        raise TalkgenError(f"paste={paste}: give face or crop")
    finder = make_detector(detector)

    def jobs() -> Iterator[VideoJob]:
        for one in dubbings:
            yield _job(model, one, finder, choose, detect_every, close_in_silence, progress)

    def change(shown: Sequence[ShownFrame]) -> NDArray[np.uint8]:
        return change_frames(model, shown)

    scale = model.size / model.crop.size
    return write_jobs(
        jobs(),
        change,
        paste_mask(model, paste),
        scale,
        model.batch_frames,
        label,
        crf,
        progress,
        watermark,
    )


def paste_mask(model: Diff2Lip, paste: str) -> NDArray[np.float32]:
    """Which part of a generated crop is put into the frame: float32 (size, size), 0 above the masked rows."""
    if paste == "crop" or model.follows_boxes:
        mask = lower_half_mask(model.size, FEATHER * model.size)
    else:
        mask = face_region(model.crop, model.size, lower_half=True)
    mask[: model.top] = 0
    return mask


def change_frames(model: Diff2Lip, shown: Sequence[ShownFrame]) -> NDArray[np.uint8]:
    """Generated crops of frames with a face, perhaps of several videos."""
    size = model.crop.size
    crops = [crop_frame(one.frame, one.job.video.matrices[one.number], size) for one in shown]
    references, mels = [], []
    for one in shown:
        state: _Heard = one.job.state
        references.append(state.crops[state.references.of_frame[one.number]])
        mels.append(model.mel_of_frames(state.mel, [one.place], one.job.video.fps))
    places = [one.place for one in shown]
    return model.pictures(np.stack(crops), np.stack(references), torch.cat(mels), places)


def _job(
    model: Diff2Lip,
    dubbing: Dubbing,
    finder: FaceDetector,
    choose: str,
    detect_every: int,
    close_in_silence: bool,
    progress: bool,
) -> VideoJob:
    sound = dubbing.audio or dubbing.target
    waveform = load_waveform(sound)
    place = box_matrices(model.crop.size) if model.follows_boxes else None
    video = follow_face(dubbing.target, model.crop, finder, choose, detect_every, progress, place)
    frames = frames_in(len(waveform), fps=video.fps)
    if frames < 1:
        raise FileError(str(sound), f"its sound lasts less than one frame at {video.fps:g} fps")
    order = ping_pong(len(video), frames)
    mel = mel_spectrogram(waveform)
    references = choose_references(video)
    numbers = np.array(references.numbers)
    size = model.crop.size
    crops = [
        crop_frame(frame, video.matrices[number], size)
        for frame, number in zip(video.read(numbers), numbers, strict=True)
    ]
    heard = _Heard(silence_pauses(mel) if close_in_silence else mel, references, np.stack(crops))
    return VideoJob(video, order, dubbing.out, sound, heard)


def box_matrices(size: int, smoothing_seconds: float = 0.4) -> Place:
    """Crops as published weights know them: the detector's box stretched to a square, smooth over time.

    The published script averages boxes i … i + 4, so that they lead the face by two frames; here the window
    is centred.

    Args:
        size: side of the crops in pixels.
        smoothing_seconds: width of the window.

    Returns:
        What ``follow_face`` asks for.
    """

    def place(track: FaceTrack, fps: float) -> NDArray[np.float32]:
        boxes = smooth(track.boxes, smoothing_seconds * fps)
        matrices = np.zeros((len(boxes), 2, 3))
        for axis in range(2):
            scale = size / (boxes[:, axis + 2] - boxes[:, axis])
            matrices[:, axis, axis] = scale
            # a box of w pixels has its corners half a pixel outside of the outermost centres
            matrices[:, axis, 2] = -0.5 - scale * (boxes[:, axis] - 0.5)
        return matrices.astype(np.float32)

    return place
