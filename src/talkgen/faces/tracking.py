"""Follow faces through a clip, also through frames without one, and choose whose face is meant.

A frame without a face never ends a clip: within a track short gaps are filled by interpolation, and
`extend_track` holds the first and last position to the ends of the clip. ``found`` says which frames are
measured, so that a caller leaves the others of the picture as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import convolve1d
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from talkgen.faces.detection import Face


@dataclass(frozen=True)
class FaceTrack:
    """One face over consecutive frames.

    Attributes:
        start: first frame of the clip in which it is.
        boxes: float32 (frames, 4), ``x0 y0 x1 y1`` in pixels.
        keypoints: float32 (frames, 5, 2) in pixels.
        found: bool (frames,): measured, not interpolated.
    """

    start: int
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    found: NDArray[np.bool_]

    @property
    def stop(self) -> int:
        """The frame after its last."""
        return self.start + len(self.found)


class _Growing:
    """A track while it is being followed."""

    def __init__(self, frame: int, face: Face) -> None:
        self.frames = [frame]
        self.faces = [face]

    def likeness(self, face: Face) -> float:
        """Overlap of the boxes less the distance of the keypoints in box sizes; above 0 for the same face."""
        last = self.faces[-1]
        size = float(np.sqrt(np.prod(last.box[2:] - last.box[:2])))
        distance = float(np.linalg.norm(face.keypoints - last.keypoints, axis=-1).mean()) / max(size, 1.0)
        return box_iou(last.box, face.box) - distance

    def finish(self) -> FaceTrack:
        frames = np.array(self.frames) - self.frames[0]
        length = int(frames[-1]) + 1
        found = np.zeros(length, bool)
        found[frames] = True
        boxes = np.full((length, 4), np.nan)
        keypoints = np.full((length, 5, 2), np.nan)
        boxes[frames] = [face.box for face in self.faces]
        keypoints[frames] = [face.keypoints for face in self.faces]
        return FaceTrack(
            self.frames[0],
            fill_gaps(boxes).astype(np.float32),
            fill_gaps(keypoints).astype(np.float32),
            found,
        )


def track_faces(
    detections: Iterable[Sequence[Face]],
    max_gap: int = 25,
    min_found: int = 1,
    cuts: Collection[int] = (),
) -> list[FaceTrack]:
    """Join the faces of single frames to tracks.

    In each frame the pairing of tracks and faces with the greatest total likeness is taken (overlap of boxes
    less distance of keypoints), so that two faces that pass each other keep their tracks.

    Args:
        detections: the faces of each frame, in order; empty also for frames that the detector skipped, which
            are then interpolated.
        max_gap: most frames without a find that a track survives; they are filled by interpolation.
        min_found: tracks with fewer finds are dropped as false alarms.
        cuts: frames with which a new shot begins; every track ends there.

    Returns:
        Tracks in the order in which they begin.
    """
    live: list[_Growing] = []
    ended: list[_Growing] = []
    for frame, faces in enumerate(detections):
        stale = [track for track in live if frame in cuts or frame - track.frames[-1] > max_gap + 1]
        ended += stale
        live = [track for track in live if track not in stale]
        likeness = np.array([[track.likeness(face) for face in faces] for track in live])
        taken = set()
        if likeness.size:
            for row, column in zip(*linear_sum_assignment(likeness, maximize=True), strict=True):
                if likeness[row, column] > 0:
                    live[row].frames.append(frame)
                    live[row].faces.append(faces[column])
                    taken.add(int(column))
        live += [_Growing(frame, face) for index, face in enumerate(faces) if index not in taken]
    tracks = [track.finish() for track in ended + live if len(track.faces) >= min_found]
    return sorted(tracks, key=lambda track: track.start)


def extend_track(track: FaceTrack, frames: int) -> FaceTrack:
    """The same face for all ``frames`` of the clip; it stands still before its first and after its last."""
    if track.stop > frames:
        raise ValueError(f"the track ends at frame {track.stop}, the clip has {frames}")
    before, after = track.start, frames - track.stop
    return FaceTrack(
        0,
        np.pad(track.boxes, ((before, after), (0, 0)), mode="edge"),
        np.pad(track.keypoints, ((before, after), (0, 0), (0, 0)), mode="edge"),
        np.pad(track.found, (before, after)),
    )


def choose_track(
    tracks: Sequence[FaceTrack],
    by: Literal["size", "longest", "speaker"] | int | tuple[float, float] = "size",
    speaking: Sequence[float] | None = None,
) -> FaceTrack:
    """The track that is meant.

    Args:
        tracks: from `track_faces`.
        by: ``"size"``: the largest area, summed over the frames in which it was found; ``"longest"``: found
            in most frames; a number: the track of that index; a point (x, y) in pixels: the nearest face;
            ``"speaker"``: the greatest of ``speaking``.
        speaking: one `speaking_score` a track.

    Raises:
        ValueError: without tracks, or for an index or choice that does not exist.
    """
    if not tracks:
        raise ValueError("there is no face track to choose from")
    if isinstance(by, int):
        if not 0 <= by < len(tracks):
            raise ValueError(f"no face track {by}; there are {len(tracks)}, counted from 0")
        return tracks[by]
    if isinstance(by, tuple):
        point = np.asarray(by, np.float32)
        middles = [(track.boxes[:, :2] + track.boxes[:, 2:]) / 2 for track in tracks]
        return tracks[int(np.argmin([np.linalg.norm(middle - point, axis=1).min() for middle in middles]))]
    if by == "size":
        areas = [np.prod(track.boxes[:, 2:] - track.boxes[:, :2], axis=1) @ track.found for track in tracks]
        return tracks[int(np.argmax(areas))]
    if by == "longest":
        return tracks[int(np.argmax([track.found.sum() for track in tracks]))]
    if by == "speaker":
        if speaking is None or len(speaking) != len(tracks):
            raise ValueError("choosing the speaker needs one speaking score a track (see speaking_score)")
        return tracks[int(np.argmax(speaking))]
    raise ValueError(f"tracks are chosen by size, longest, speaker, an index or a point, not {by!r}")


def speaking_score(mouth_opening: ArrayLike, audio_energy: ArrayLike, fps: float = 25.0) -> float:
    """How well a mouth moves with the sound: Pearson's correlation, -1 to 1, the best within ±0.12 s.

    Compared are the speed of the mouth and the loudness, both smoothed over a fifth of a second: lips that
    move while it is loud and rest while it is silent. A mouth that does not move scores 0.

    Args:
        mouth_opening: (frames,), see `talkgen.faces.ibug.mouth_opening`.
        audio_energy: (frames,) loudness of the same frames, e.g. the root mean square of their samples.
        fps: frames a second.
    """
    window = fps / 5
    speed = smooth(np.abs(np.gradient(np.asarray(mouth_opening, np.float64))), window)
    loud = smooth(np.asarray(audio_energy, np.float64), window)
    reach = round(0.12 * fps)
    scores = [0.0]
    for lag in range(-reach, reach + 1):
        x = speed[max(0, lag) : len(speed) + min(0, lag)]
        y = loud[max(0, -lag) : len(loud) + min(0, -lag)]
        if len(x) > 2 and x.std() > 1e-9 and y.std() > 1e-9:
            scores.append(float(np.corrcoef(x, y)[0, 1]))
    return max(scores[1:], default=0.0)


def box_iou(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Area in both boxes over area in either, 0 to 1."""
    inside = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = float(np.prod(np.maximum(inside, 0)))
    both = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])) - shared
    return shared / both if both > 0 else 0.0


def fill_gaps(values: ArrayLike) -> NDArray[np.float64]:
    """Replace NaN along the first axis by linear interpolation, at the ends by the nearest value.

    Args:
        values: (frames, ...); a frame is a gap if any of its values is NaN.

    Raises:
        ValueError: if every frame is a gap.
    """
    filled = np.array(values, np.float64)
    flat = filled.reshape(len(filled), -1)
    known = np.isfinite(flat).all(1)
    if not known.any():
        raise ValueError("no frame has a face; there is nothing to interpolate from")
    frames = np.arange(len(flat))
    for column in flat.T:
        column[~known] = np.interp(frames[~known], frames[known], column[known])
    return filled


def smooth(values: ArrayLike, window: float) -> NDArray[np.float64]:
    """Smooth along the first axis with a centred window, which neither leads nor lags.

    At every frame a straight line is fitted to its neighbours with Gaussian weights (a standard deviation of
    a quarter of ``window``) and read off at the frame. In the middle of a clip that is the weighted mean; at
    its ends, where half of the window is missing, the mean would be drawn inwards and the line is not.
    Steady motion comes out unchanged everywhere. (The moving average of Wav2Lip's and Diff2Lip's code covers
    the frames i ... i + 4 and leads by two frames.)

    Args:
        values: (frames, ...).
        window: width in frames; 1 or less leaves the values as they are.
    """
    given = np.asarray(values, np.float64)
    reach = int(window // 2)
    if reach < 1 or len(given) < 3:
        return given.copy()
    offset = np.arange(-reach, reach + 1, dtype=np.float64)
    weight = np.exp(-0.5 * (offset / (window / 4)) ** 2)

    def window_sum(signal: NDArray[np.float64], power: int) -> NDArray[np.float64]:
        # convolve1d flips its kernel; outside of the clip nothing counts.
        kernel = (weight * offset**power)[::-1]
        return np.asarray(convolve1d(signal, kernel, axis=0, mode="constant", cval=0.0))

    ones = np.ones(len(given)).reshape(-1, *[1] * (given.ndim - 1))
    s0, s1, s2 = (window_sum(ones, power) for power in range(3))
    return np.asarray((s2 * window_sum(given, 0) - s1 * window_sum(given, 1)) / (s0 * s2 - s1**2))
