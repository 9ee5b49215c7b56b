"""Which of several faces in a shot becomes a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from talkgen.audio.alignment import sample_range
from talkgen.audio.waveform import SAMPLE_RATE, load_waveform
from talkgen.errors import FileError
from talkgen.faces.detection import Face
from talkgen.faces.tracking import FaceTrack, choose_track, fill_gaps, speaking_score

_PIECE_SECONDS = 60  # of sound that are in memory at a time

Choice = Literal["size", "longest", "speaker"] | int


def parse_choice(text: str) -> Choice:
    """`size`, `longest`, `speaker`, or the N of `index:N`.

    Raises:
        ValueError: it is none of these.
    """
    if text in ("size", "longest", "speaker"):
        return text  # type: ignore[return-value]
    word, _, number = text.partition(":")
    if word == "index" and number.isdecimal():
        return int(number)
    raise ValueError(f"choose is size, longest, speaker or index:N, not {text!r}")


def from_left_to_right(tracks: Sequence[FaceTrack]) -> list[FaceTrack]:
    """Tracks by the mean of their middles."""
    return sorted(tracks, key=lambda track: float(track.boxes[:, [0, 2]].mean()))


def choose_speaker(
    tracks: Sequence[FaceTrack],
    detections: Sequence[Sequence[Face]],
    openings: Sequence[Sequence[float]],
    loudness: np.ndarray,
    fps: float,
) -> FaceTrack:
    """The track whose mouth moves most with the sound; the largest where none does.

    Args:
        tracks: of one shot.
        detections: faces of each frame of the video, as the tracks were made of them.
        openings: of their mouths, see `talkgen.faces.ibug.mouth_opening`; NaN where unknown.
        loudness: `(frames,)` of the shot, from the first frame of its first track.
        fps: frames a second.
    """
    first = min(track.start for track in tracks)
    scores = []
    for track in tracks:
        mouth = _track_openings(track, detections, openings)
        heard = loudness[track.start - first : track.stop - first]
        scores.append(0.0 if mouth is None else speaking_score(mouth, heard, fps))
    if max(scores) <= 0:
        return choose_track(tracks, by="size")
    return choose_track(tracks, by="speaker", speaking=scores)


def _track_openings(
    track: FaceTrack, detections: Sequence[Sequence[Face]], openings: Sequence[Sequence[float]]
) -> np.ndarray | None:
    """Opening of a track's mouth in each of its frames; None where it is known in none."""
    mouth = np.full(len(track.found), np.nan)
    for place in np.flatnonzero(track.found).tolist():
        faces = detections[track.start + place]
        for face, opening in zip(faces, openings[track.start + place], strict=True):
            if np.array_equal(face.box, track.boxes[place]):
                mouth[place] = opening
    return fill_gaps(mouth) if np.isfinite(mouth).any() else None


def frame_loudness(file: Path, start_seconds: float, frames: int, fps: float) -> np.ndarray:
    """Root mean square of the samples of each frame, `(frames,)`; 0 beyond the end of the sound."""
    loudness = np.zeros(frames)
    step = max(1, round(_PIECE_SECONDS * fps))
    for first in range(0, frames, step):
        count = min(step, frames - first)
        samples = sample_range(0, count, fps).stop
        try:
            sound = load_waveform(
                file, start_seconds=start_seconds + first / fps, seconds=samples / SAMPLE_RATE
            )
        except FileError:  # ended before; whoever reads the sound of a clip says so
            break
        power = np.zeros(samples)
        power[: len(sound)] = sound[:samples].astype(np.float64) ** 2
        edges = [sample_range(0, frame, fps).stop for frame in range(count)]
        lengths = np.diff([*edges, samples])
        loudness[first : first + count] = np.sqrt(np.add.reduceat(power, edges) / lengths)
    return loudness
