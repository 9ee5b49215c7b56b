"""Landmarks of whatever pictures a metric compares, all seen by one detector.

Ground truth goes through the same detector as generated frames, not through the landmarks of the corpus: the
detector's own noise is then on both sides, and the re-encoded row of a table shows how large it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from talkgen import weights
from talkgen.download import file_sha256
from talkgen.errors import MissingPackage, MissingWeights, TalkgenError
from talkgen.faces.detection import Face, FaceDetector, make_detector
from talkgen.faces.landmarks import Landmarker, make_landmarker
from talkgen.faces.mesh import IBUG_FROM_MESH, FaceMesh

WEIGHTS = {
    "insightface": ("scrfd_500m", "landmarks_106"),
    "face-alignment": ("s3fd", "fan_2d"),
    "mediapipe": ("face_landmarker",),
    "dlib": ("dlib_68",),
}
"""Backend → the files that its detector and its landmark network read."""


class LandmarkSource:
    """Frames → 68 points of the largest face in each, NaN where none was found.

    Args:
        detector: finds faces.
        landmarker: finds the points of a face.
        name: of the two, for the protocol line.
        weights: weight name → sha256 of the file, for the protocol line.
    """

    def __init__(
        self,
        detector: FaceDetector,
        landmarker: Landmarker,
        name: str = "",
        weights: dict[str, str] | None = None,
    ) -> None:
        self.detector = detector
        self.landmarker = landmarker
        self.name = name
        self.weights = weights or {}

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 RGB (t, h, w, 3) → float32 (t, 68, 2) in pixels."""
        found = np.full((len(frames), 68, 2), np.nan, np.float32)
        for points, frame in zip(found, frames.numpy(), strict=True):
            faces = self.detector.detect(frame)
            if faces:
                points[:] = self.landmarker.landmarks(frame, max(faces, key=_area))
        return torch.from_numpy(found)


class MeshLandmarkSource(LandmarkSource):
    """MediaPipe's points of the largest face: its network finds face and points at once.

    Args:
        weights: see ``LandmarkSource``.
    """

    def __init__(self, weights: dict[str, str] | None = None) -> None:
        self.mesh = FaceMesh(faces=1, threshold=0.3)
        self.name = "mediapipe"
        self.weights = weights or {}

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 RGB (t, h, w, 3) → float32 (t, 68, 2) in pixels."""
        found = np.full((len(frames), 68, 2), np.nan, np.float32)
        for points, frame in zip(found, frames.numpy(), strict=True):
            faces = self.mesh.points(frame)
            if faces:
                points[:] = faces[0][IBUG_FROM_MESH].mean(1)
        return torch.from_numpy(found)


def _area(face: Face) -> float:
    x0, y0, x1, y1 = face.box
    return float((x1 - x0) * (y1 - y0))


def open_landmark_source(backend: str = "auto") -> LandmarkSource | MissingWeights | MissingPackage:
    """The landmark source of one backend, or the reason why there is none, which says how to cure it.

    The reason is given back and not raised: a table goes without the columns that need it, and says so.

    Args:
        backend: a key of ``WEIGHTS``; ``"auto"`` is MediaPipe where it is installed, else InsightFace: on
            rendered faces of 96 pixels MediaPipe's mouth opening correlates at 0.94 with the truth,
            InsightFace's at 0.81, dlib's at 0.4.

    Raises:
        TalkgenError: there is no such backend.
    """
    if backend == "auto":
        best = open_landmark_source("mediapipe")
        return best if isinstance(best, LandmarkSource) else open_landmark_source("insightface")
    if backend not in WEIGHTS:
        raise TalkgenError(f"no landmarks of {backend!r}; there are auto, {', '.join(WEIGHTS)}")
    digests = {name: file_sha256(weights.find(name)) for name in WEIGHTS[backend] if weights.available(name)}
    try:
        if backend == "mediapipe":
            return MeshLandmarkSource(digests)
        return LandmarkSource(make_detector(backend), make_landmarker(backend), backend, digests)
    except (MissingWeights, MissingPackage) as error:
        return error
