"""The face in a video that is to be changed: where it is in every frame, and the frames in any order.

Memory does not grow with the length of the video but by the few numbers that say where the face is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.data.face_choice import from_left_to_right, parse_choice
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import crop_matrices
from talkgen.faces.crop import CropSettings, crop_frame
from talkgen.faces.detection import Face, FaceDetector
from talkgen.faces.mask import feathered_mask
from talkgen.faces.shots import shot_boundaries
from talkgen.faces.tracking import FaceTrack, choose_track, track_faces
from talkgen.video.picture_header import picture_size
from talkgen.video.reader import probe, read_frames

# A face that is missed for so long is still there, and is followed by interpolation; after it, it is gone.
_BRIDGED_SECONDS = 0.24
_JOINED_SECONDS = 1.0  # a face that comes back within this time, and near the same place, is the same one
LARGEST_PICTURE = 250_000_000  # pixels, 750 MB; the largest cameras have 200 million
_REVERSED_AT_ONCE = 16  # frames that are held while a video runs backwards


@dataclass(frozen=True)
class TargetVideo:
    """A video with one face followed through it.

    Attributes:
        file: where it is.
        fps: frames a second, as the file says.
        width, height: of its frames in pixels.
        matrices: float32 (frames, 2, 3), frame pixels → crop pixels; NaN where no face is.
        has_face: bool (frames,).
        cuts: first frames of all shots but the first.
    """

    file: Path
    fps: float
    width: int
    height: int
    matrices: NDArray[np.float32]
    has_face: NDArray[np.bool_]
    cuts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.has_face)

    def read(self, order: NDArray[np.integer]) -> Iterator[NDArray[np.uint8]]:
        """Frames in the order of their numbers, runs backwards included, in constant memory."""
        for run in _runs(order):
            step = int(run[1] - run[0]) if len(run) > 1 else 1
            if step == 1:
                yield from self._span(int(run[0]), len(run))
            else:
                for start in range(0, len(run), _REVERSED_AT_ONCE):
                    part = run[start : start + _REVERSED_AT_ONCE]
                    yield from reversed(list(self._span(int(part[-1]), len(part))))

    def _span(self, first: int, count: int) -> Iterator[NDArray[np.uint8]]:
        given = 0
        for frame in read_frames(self.file, self.fps, first / self.fps, count / self.fps):
            yield frame
            given += 1
        if given < count:
            raise FileError(self.file, f"gave {given} of {count} frames when it was read again; copy it anew")


def _runs(order: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    """Stretches of an order that go forwards or backwards frame by frame."""
    start = 0
    while start < len(order):
        stop = start + 1
        step = order[stop] - order[start] if stop < len(order) else 0
        if step in (-1, 1):
            while stop < len(order) and order[stop] - order[stop - 1] == step:
                stop += 1
        yield order[start:stop]
        start = stop


def ping_pong(frames: int, wanted: int) -> NDArray[np.int64]:
    """Numbers of ``wanted`` frames of a video of ``frames``: forwards, backwards, forwards, …

    0 1 2 3 | 2 1 | 0 1 2 3 …: no frame is shown twice in a row, so that motion turns but never jumps.
    """
    if frames < 1:
        raise ValueError("a video without frames has no order")
    place = np.arange(wanted) % max(2 * (frames - 1), 1)
    return np.minimum(place, 2 * (frames - 1) - place)


def follow_face(
    file: str | Path,
    crop: CropSettings,
    detector: FaceDetector,
    choose: str = "size",
    detect_every: int = 1,
    progress: bool = True,
    place: Callable[[FaceTrack, float], NDArray[np.float32]] | None = None,
) -> TargetVideo:
    """Find and follow the face in a video.

    Where a shot has several faces, ``choose`` says which: ``"size"``, ``"longest"``, or ``"index:N"`` (from
    left to right, from 0). With the first two, a face that goes and another that comes are taken one after
    the other. A frame without a face, or without that of the choice, has ``has_face`` False.

    Args:
        file: the video.
        crop: what is cut out around the face.
        detector: finds faces.
        choose: see above.
        detect_every: look for faces in every so many frames only.
        progress: show a bar.
        place: a track and the frame rate → matrices (frames, 2, 3) to crops; None: ``crop_matrices`` of its
            keypoints, by ``crop``.

    Raises:
        FileError: the file is no video, or there is no face in it.
        TalkgenError: the choice cannot be meant.
    """
    try:
        by = parse_choice(choose)
    except ValueError as error:
        raise TalkgenError(f"choose={choose}: {error}") from error
    if by == "speaker":
        raise TalkgenError("choose=speaker needs the target's own sound; give size, longest or index:N")
    info = probe(file)
    detections: list[list[Face]] = []
    bar = tqdm(total=info.frames, unit="frame", desc="finding the face", disable=not progress)

    def watched() -> Iterator[NDArray[np.uint8]]:
        for number, frame in enumerate(read_frames(file, info.fps)):
            detections.append(detector.detect(frame) if number % detect_every == 0 else [])
            bar.update()
            yield frame

    with bar:
        cuts = list(shot_boundaries(watched()))
    frames = len(detections)
    tracks = track_faces(
        detections, max_gap=round(_JOINED_SECONDS * info.fps) + detect_every - 1, min_found=1, cuts=cuts
    )
    matrices = np.full((frames, 2, 3), np.nan, np.float32)
    has_face = np.zeros(frames, bool)
    bridged = round(_BRIDGED_SECONDS * info.fps) + detect_every - 1
    for start, stop in pairwise([0, *cuts, frames]):
        for track in _chosen([one for one in tracks if start <= one.start < stop], by):
            inside = slice(track.start, track.stop)
            if place is None:
                matrices[inside] = crop_matrices(track.keypoints, crop, info.fps)
            else:
                matrices[inside] = place(track, info.fps)
            has_face[track.start : track.stop] = _bridge(track.found, bridged)
    if not has_face.any():
        wanted = "no face" if isinstance(by, str) else f"no face {by} from the left (from 0)"
        raise FileError(file, f"{wanted} was found in its {frames} frames; give a video in which one is seen")
    matrices[~has_face] = np.nan
    return TargetVideo(Path(file), info.fps, info.width, info.height, matrices, has_face, tuple(cuts))


def _chosen(tracks: list[FaceTrack], by: str | int) -> list[FaceTrack]:
    """The tracks that are followed in one shot; no two of them at the same time."""
    if isinstance(by, int):
        ordered = from_left_to_right(tracks)
        return ordered[by : by + 1]
    left, chosen = list(tracks), []
    while left:
        best = choose_track(left, by=by)  # type: ignore[arg-type]
        chosen.append(best)
        left = [one for one in left if one.stop <= best.start or one.start >= best.stop]
    return chosen


def _bridge(found: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """``found`` with gaps of up to ``longest`` frames closed."""
    closed = found.copy()
    place = 0
    for value, group in groupby(found):
        length = len(list(group))
        if not value and length <= longest:
            closed[place : place + length] = True
        place += length
    return closed


def read_picture(file: str | Path) -> NDArray[np.uint8]:
    """A picture file as uint8 RGB (height, width, 3), turned as its EXIF entry says.

    Raises:
        FileError: it is missing, or no picture.
    """
    path = Path(file)
    if not path.is_file():
        raise FileError(file, "no such file; give a picture (png, jpg, …) of the face")
    content = path.read_bytes()  # imread does not take every path on every system; bytes always work
    size = picture_size(content)
    if size is not None and size[0] * size[1] > LARGEST_PICTURE:
        raise FileError(
            file,
            f"has {size[0]} × {size[1]} pixels, more than {LARGEST_PICTURE // 10**6} million; shrink it",
        )
    try:
        picture = None if size is None else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise FileError(file, "is no picture that can be read; give a png, jpg, webp, bmp or tiff")
    return np.ascontiguousarray(picture[..., ::-1], np.uint8)


def crop_source(
    picture: NDArray[np.uint8], crop: CropSettings, detector: FaceDetector, file: str | Path = "the picture"
) -> NDArray[np.uint8]:
    """The largest face of a picture, cut out as frames of a video are: uint8 (size, size, 3).

    Raises:
        FileError: there is no face in it.
    """
    faces = detector.detect(picture)
    if not faces:
        raise FileError(file, "no face was found in it; give a picture that shows the face from the front")
    largest = max(faces, key=lambda face: float(np.prod(face.box[2:] - face.box[:2])))
    return crop_frame(picture, crop_matrices(largest.keypoints[None], crop)[0], crop.size)


# Of a face's height (hairline to chin): its middle below the eyes, half of its height and of its width.
_MIDDLE, _HALF_HEIGHT, _HALF_WIDTH = 0.05, 0.53, 0.43


def face_region(crop: CropSettings, size: int, lower_half: bool, feather: float = 0.1) -> NDArray[np.float32]:
    """What of a generated crop is put into the frame: an ellipse over the face, soft at its rim.

    Crops are aligned, so that the face is in the same place of each. Hair and background stay as they are.

    Args:
        crop: how crops are cut.
        size: side of the generated crop in pixels.
        lower_half: only the part below the middle, which lip-sync makes.
        feather: width of the soft rim, as a share of the face's height.

    Returns:
        float32 (size, size) in [0, 1].
    """
    height = size / crop.scale
    y, x = np.mgrid[:size, :size] + 0.5
    centre = crop.eye_line * size + _MIDDLE * height
    across, down = (x - size / 2) / (_HALF_WIDTH * height), (y - centre) / (_HALF_HEIGHT * height)
    region = across**2 + down**2 <= 1
    if lower_half:
        region[: size // 2] = False
    return feathered_mask(region, feather * height)


def whole_crop(size: int, feather: float = 0.06) -> NDArray[np.float32]:
    """All of a crop but its soft rim, whose width is a share of its side: float32 (size, size)."""
    return feathered_mask(np.ones((size, size), bool), feather * size)


def scaled(matrices: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Matrices (n, 2, 3) to crops, after those were resized by ``scale``; pixel centres are whole numbers."""
    resized = matrices.astype(np.float64) * scale
    resized[..., 2] += (scale - 1) / 2
    return resized.astype(np.float32)


def put_label(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """The frame with ``text`` (ASCII) in its lower left corner, legible on any ground; a new array."""
    labelled = frame.copy()
    height = frame.shape[0]
    scale = max(height / 720, 0.35)
    left, down, rim = round(10 * scale), height - round(12 * scale), max(1, round(2 * scale))
    around = [(x, y) for x in (-rim, 0, rim) for y in (-rim, 0, rim) if x or y]
    for x, y in (*around, (0, 0)):  # dark all around, then bright
        colour = (0, 0, 0) if x or y else (255, 255, 255)
        place = (left + x, down + y)
        cv2.putText(labelled, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, colour, 1, cv2.LINE_AA)
    return labelled
