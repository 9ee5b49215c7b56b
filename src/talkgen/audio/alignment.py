"""Where video frames meet audio steps: the only place, for any frame rate.

Conventions of time, shared by every function here:

- frame *k* shows from *k*/fps to (*k*+1)/fps; its **centre** is (*k* + ½)/fps;
- column *j* of a mel spectrogram or MFCC is a window **centred** on *j*/80 s (mel) or starting at *j*/100 s
  (MFCC);
- step *j* of Whisper's features is centred on *j*/50 s, of HuBERT's on (*j* + ½)/50 s.

Frame rates are taken as exact fractions (29.97 and 23.976 as written, 30000/1001 given as a float too), so no
window moves by a step because a product came out as 15.999….

A window is a half-open range of steps. It may reach over the ends of the audio (its start may be negative):
the functions that read windows fill what is missing, so that every frame of a video has one and none is
dropped at the end.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from talkgen.audio.mel import MEL_SILENCE

MEL_STEPS_PER_SECOND = 80
MFCC_STEPS_PER_SECOND = 100
FEATURE_STEPS_PER_SECOND = 50
WHISPER_FIRST_STEP_SECONDS = 0.0
HUBERT_FIRST_STEP_SECONDS = 0.01
SYNCNET_MFCC_STEPS = 20

PerFrameConvention = Literal["centred", "official", "wav2lip_inference"]
Pad = Literal["edge", "silence"]
_Real = TypeVar("_Real", bound=np.generic)


class Steps(NamedTuple):
    """A half-open range of steps, frames or samples."""

    start: int
    stop: int


@lru_cache(maxsize=256)
def exact_rate(fps: float | Fraction) -> Fraction:
    """The frame rate as a fraction: 25 → 25, 29.97 → 2997/100, 29.97002997 → 30000/1001.

    Raises:
        ValueError: the rate is not a positive finite number.
    """
    if not 0 < fps < float("inf"):
        raise ValueError(f"a frame rate must be positive, got {fps}")
    return Fraction(fps).limit_denominator(1001)


def _rounded(value: Fraction) -> int:
    """Nearest integer; halves go up."""
    return floor(value + Fraction(1, 2))


# --- mel windows ---


def mel_window(frame: int, fps: float | Fraction = 25, frames: int = 5, steps: int | None = None) -> Steps:
    """Mel columns of the frames ``frame … frame + frames − 1``, as Wav2Lip's sync expert takes them.

    At 25 fps this is Wav2Lip's ``int(80 · frame / 25)`` and 16 columns for 5 frames. The mean of its column
    centres lies 11 ms before the middle of the frames (6 to 16 ms: the start is rounded down, and a column
    has no width).

    Args:
        frame: first frame of the window.
        fps: frames a second.
        frames: frames of the window.
        steps: columns to take; None takes as many as the frames last, rounded (16 for 5 frames at 25 fps, 13
            at 30). A network with a fixed input gets its fixed number at any rate: the columns are then laid
            around the middle.
    """
    rate = exact_rate(fps)
    length = Fraction(MEL_STEPS_PER_SECOND * frames) / rate
    count = _rounded(length) if steps is None else steps
    extra = 0 if steps is None else (length - count) / 2
    start = floor(MEL_STEPS_PER_SECOND * frame / rate + extra)
    return Steps(start, start + count)


def per_frame_mel_window(
    frame: int, fps: float | Fraction = 25, convention: PerFrameConvention = "centred", steps: int = 16
) -> Steps:
    """Mel columns that a generator of single frames hears for one frame.

    Conventions (the lead is how far the mean of the column centres lies after the frame's centre, at 25 fps):

    - ``"centred"``: nearest to centred, never more than half a column (6.25 ms) off. Frame 0 starts at −6.
    - ``"official"``: ``int(80 · max(frame − 1, 0) / fps)``, which Diff2Lip uses everywhere and Wav2Lip in
      training. It hears frames −1 … +3 in place of −2 … +2: a lead of +28.8 ms (23.8 to 33.8). Frames 0 and 1
      share a window. Published checkpoints of both expect it.
    - ``"wav2lip_inference"``: ``int(80 · frame / fps)``, what Wav2Lip's inference script does: +68.8 ms, one
      frame off its own training.
    """
    rate = exact_rate(fps)
    if convention == "centred":
        start = _rounded(MEL_STEPS_PER_SECOND * (frame + Fraction(1, 2)) / rate - Fraction(steps - 1, 2))
    elif convention == "official":
        start = floor(MEL_STEPS_PER_SECOND * max(frame - 1, 0) / rate)
    elif convention == "wav2lip_inference":
        start = floor(MEL_STEPS_PER_SECOND * frame / rate)
    else:
        raise ValueError(f"unknown convention {convention!r}; choose centred, official or wav2lip_inference")
    return Steps(start, start + steps)


def mel_windows(
    mel: NDArray[_Real],
    starts: ArrayLike,
    steps: int = 16,
    pad: Pad = "edge",
    silence: float = MEL_SILENCE,
) -> NDArray[_Real]:
    """Cut many windows out of a mel spectrogram at once.

    Args:
        mel: ``(n_mels, all_steps)``.
        starts: first columns ``(n,)``; may lie before the beginning or after the end.
        steps: columns of a window.
        pad: what stands outside the audio: ``"edge"`` repeats the first or last column, ``"silence"`` the
            value ``silence``.
        silence: the value of a silent cell (−4 under Wav2Lip's settings).

    Returns:
        ``(n, n_mels, steps)``, of mel's type.
    """
    return np.ascontiguousarray(_gather(mel.T, starts, steps, pad, silence).transpose(0, 2, 1))


# --- MFCC windows ---


def mfcc_window(frame: int, fps: float | Fraction = 25, steps: int = SYNCNET_MFCC_STEPS) -> Steps:
    """MFCC steps that SyncNet compares with five frames from ``frame``: 20 from 4·frame at 25 fps."""
    start = floor(MFCC_STEPS_PER_SECOND * frame / exact_rate(fps))
    return Steps(start, start + steps)


def mfcc_windows(mfcc: NDArray[_Real], starts: ArrayLike, steps: int = SYNCNET_MFCC_STEPS) -> NDArray[_Real]:
    """Cut MFCC ``(all_steps, 13)`` into SyncNet's inputs ``(n, 13, steps)``; the ends are repeated."""
    return np.ascontiguousarray(_gather(mfcc, starts, steps, "edge", 0.0).transpose(0, 2, 1))


# --- features of Whisper and HuBERT ---


def feature_steps(samples: int, sample_rate: int = 16000) -> int:
    """Steps that 50 Hz features of a waveform have: seconds × 50, rounded."""
    return _rounded(Fraction(FEATURE_STEPS_PER_SECOND * samples, sample_rate))


def features_at_frames(
    features: NDArray[np.floating],
    n_frames: int,
    fps: float | Fraction = 25,
    feature_rate: float | Fraction = FEATURE_STEPS_PER_SECOND,
    first_step_seconds: float = WHISPER_FIRST_STEP_SECONDS,
) -> NDArray[np.float32]:
    """One feature vector a frame: linear interpolation at the frames' centres; the ends are held.

    Args:
        features: ``(steps, dim)``.
        n_frames: frames of the video.
        fps: frames a second.
        feature_rate: steps a second.
        first_step_seconds: the time that step 0 is centred on: 0 for Whisper, 0.01 for HuBERT (the constants
            above).

    Returns:
        float32 ``(n_frames, dim)``.
    """
    _need_steps(features)
    centres = (np.arange(n_frames) + 0.5) / float(exact_rate(fps))
    position = np.clip((centres - first_step_seconds) * float(feature_rate), 0, len(features) - 1)
    before = np.minimum(position.astype(np.int64), max(len(features) - 2, 0))
    weight = (position - before).astype(np.float32)[:, None]
    after = np.minimum(before + 1, len(features) - 1)
    return ((1 - weight) * features[before] + weight * features[after]).astype(np.float32, copy=False)


def feature_window(
    frame: int,
    fps: float | Fraction = 25,
    frames_before: int = 2,
    frames_after: int = 2,
    feature_rate: float | Fraction = FEATURE_STEPS_PER_SECOND,
) -> Steps:
    """Feature steps from ``frames_before`` frames before a frame to ``frames_after`` after it, inclusive.

    With the defaults at 25 fps: 10 steps from 2·(frame − 2) (the window of LatentSync and MuseTalk).
    """
    ratio = Fraction(feature_rate).limit_denominator(1001) / exact_rate(fps)
    start = floor((frame - frames_before) * ratio)
    return Steps(start, start + _rounded((frames_before + 1 + frames_after) * ratio))


def feature_windows(features: NDArray[_Real], starts: ArrayLike, steps: int) -> NDArray[_Real]:
    """Cut features ``(all_steps, dim)`` into windows ``(n, steps, dim)``; the ends are repeated."""
    return _gather(features, starts, steps, "edge", 0.0)


# --- samples ---


def sample_range(
    start_frame: int, frames: int, fps: float | Fraction = 25, sample_rate: int = 16000
) -> Steps:
    """Samples of a range of frames; ranges that follow each other share no sample and leave none out."""
    samples_per_frame = sample_rate / exact_rate(fps)
    return Steps(
        _rounded(start_frame * samples_per_frame), _rounded((start_frame + frames) * samples_per_frame)
    )


def frames_in(samples: int, sample_rate: int = 16000, fps: float | Fraction = 25) -> int:
    """Whole frames that a number of samples lasts; the inverse of :func:`sample_range` from frame 0."""
    rate = exact_rate(fps)
    frames = floor(samples * rate / sample_rate)
    # Where a frame is no whole number of samples its end was rounded, perhaps down: then it still counts.
    return frames + (sample_range(0, frames + 1, fps, sample_rate).stop <= samples)


def _gather(array: NDArray[_Real], starts: ArrayLike, steps: int, pad: Pad, silence: float) -> NDArray[_Real]:
    """Windows ``(n, steps, dim)`` of a time-first array."""
    _need_steps(array)
    if pad not in ("edge", "silence"):
        raise ValueError(f"pad must be 'edge' or 'silence', got {pad!r}")
    index = np.asarray(starts, dtype=np.int64).reshape(-1, 1) + np.arange(steps)
    windows = np.take(array, index, axis=0, mode="clip")
    if pad == "silence":
        windows[(index < 0) | (index >= len(array))] = silence
    return windows


def _need_steps(array: NDArray[_Real]) -> None:
    if array.ndim != 2 or len(array) == 0:
        raise ValueError(f"expected two axes and at least one step, got shape {array.shape}")
