"""The coefficients of the face in a picture or a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talkgen.errors import FileError
from talkgen.face3d.fitting import Fit, crop_camera, fit_landmarks
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.faces.alignment import crop_matrices
from talkgen.faces.crop import CropSettings, crop_frame, transform_points
from talkgen.faces.detection import Face, FaceDetector
from talkgen.faces.landmarks import Landmarker
from talkgen.faces.tracking import FaceTrack, choose_track, extend_track, fill_gaps, track_faces
from talkgen.video.reader import probe, read_frames

_GAP_SECONDS = 1.0  # a face that is missed for so long is still the same one


@dataclass(frozen=True)
class FittedFace:
    """A face and what its landmarks say of it.

    Attributes:
        coefficients: float32 (frames, 257); one identity, texture and light 0.
        landmarks: float32 (frames, 68, 2), pixels of the crop, by the landmark network.
        matrices: float32 (frames, 2, 3), frame pixels → crop pixels.
        residual: float32 (frames,), pixels of the crop; see ``face3d.fitting.Fit``.
        found: bool (frames,), False where the face was interpolated.
    """

    coefficients: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    matrices: NDArray[np.float32]
    residual: NDArray[np.float32]
    found: NDArray[np.bool_]


class FaceFitter:
    """Finds the face in pictures and videos, cuts it out as a corpus was cut, and fits a morphable model.

    Args:
        model: whose coefficients are wanted.
        crop: how faces are cut out.
        detector: finds faces.
        landmarker: finds their 68 points.
    """

    def __init__(
        self, model: MorphableModel, crop: CropSettings, detector: FaceDetector, landmarker: Landmarker
    ) -> None:
        self.model = model.resized()
        self.crop = crop
        self.camera = crop_camera(crop)
        self.detector = detector
        self.landmarker = landmarker

    def picture(self, picture: NDArray[np.uint8], name: str | Path = "the picture") -> FittedFace:
        """The largest face of a picture.

        Raises:
            FileError: there is no face in it; ``name`` is what it is called then.
        """
        faces = self.detector.detect(picture)
        if not faces:
            raise FileError(
                name, "no face was found in it; give a picture that shows the face from the front"
            )
        face = max(faces, key=lambda one: float(np.prod(one.box[2:] - one.box[:2])))
        points = self.landmarker.landmarks(picture, face)[None]
        if not np.isfinite(points).all():
            raise FileError(name, "the landmark network found no face in it; give one from the front")
        matrices = crop_matrices(face.keypoints[None], self.crop)
        return self._fitted(points, matrices, np.ones(1, bool))

    def video(
        self, file: str | Path, fps: float = 25.0, seconds: float | None = None, progress: bool = True
    ) -> FittedFace:
        """The largest face of a video, frame by frame; memory grows by the numbers alone.

        Args:
            file: the video, of one shot.
            fps: frames a second that are looked at.
            seconds: only so much of it.
            progress: show a bar.

        Raises:
            FileError: it is no video, or shows no face.
        """
        found: list[list[Face]] = []
        points: list[list[NDArray[np.float32]]] = []
        info = probe(file)
        total = round(min(info.seconds, seconds or info.seconds) * fps)
        with tqdm(total=total, unit="frame", desc="finding the face", disable=not progress) as bar:
            for frame in read_frames(file, fps, seconds=seconds):
                faces = self.detector.detect(frame)
                found.append(faces)
                points.append([self.landmarker.landmarks(frame, face) for face in faces])
                bar.update()
        tracks = track_faces(found, max_gap=round(_GAP_SECONDS * fps))
        if not tracks:
            raise FileError(
                file, f"no face was found in its {len(found)} frames; give a video that shows one"
            )
        track = extend_track(choose_track(tracks, by="size"), len(found))
        chosen = np.stack([_points_of(track, n, found[n], points[n]) for n in range(len(found))])
        if not np.isfinite(chosen).all((1, 2)).any():
            raise FileError(file, "the landmark network found no face in it; give a video from the front")
        matrices = crop_matrices(track.keypoints, self.crop, fps)
        return self._fitted(fill_gaps(chosen).astype(np.float32), matrices, track.found)

    def crops(self, file: str | Path, fitted: FittedFace, fps: float = 25.0) -> Iterator[NDArray[np.uint8]]:
        """The crops that a fitted video's landmarks are in pixels of, one at a time."""
        for frame, matrix in zip(read_frames(file, fps), fitted.matrices, strict=False):
            yield crop_frame(frame, matrix, self.crop.size)

    def _fitted(
        self, points: NDArray[np.float32], matrices: NDArray[np.float32], found: NDArray[np.bool_]
    ) -> FittedFace:
        in_crop = transform_points(matrices, points).astype(np.float32)
        fit: Fit = fit_landmarks(self.model, in_crop, self.camera)
        return FittedFace(fit.coefficients, in_crop, matrices, fit.residual, found)


def _points_of(
    track: FaceTrack, number: int, faces: list[Face], points: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Landmarks of the face that a track follows, NaN where it was interpolated."""
    if faces and track.found[number]:
        distance = [float(np.abs(face.keypoints - track.keypoints[number]).max()) for face in faces]
        return points[int(np.argmin(distance))]
    return np.full((68, 2), np.nan, np.float32)
