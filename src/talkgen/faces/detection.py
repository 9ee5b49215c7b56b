"""Find faces in a frame: one protocol, four interchangeable detectors.

A detector is made by name, so that a config can choose it::

    detector = make_detector("insightface")
    faces = detector.detect(frame)  # frame: uint8 RGB (height, width, 3)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from talkgen import weights
from talkgen.faces.ibug import keypoints_from_landmarks
from talkgen.faces.landmarks import DlibLandmarker, FaceAlignmentLandmarker
from talkgen.faces.mesh import IBUG_FROM_MESH, FaceMesh
from talkgen.faces.runtime import face_alignment_weights, onnx_session, require

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    Attributes:
        box: float32 (4,) ``x0 y0 x1 y1`` in pixels of the frame; may reach outside it.
        score: confidence of the detector; comparable only within one detector.
        keypoints: float32 (5, 2) in pixels: left eye, right eye (as seen in the picture), tip of the nose,
            left and right corner of the mouth.
    """

    box: NDArray[np.float32]
    score: float
    keypoints: NDArray[np.float32]


class FaceDetector(Protocol):
    """Anything that finds faces in a frame."""

    def detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        """Faces in ``frame`` (uint8 RGB (height, width, 3)), the most certain first; ``[]`` where none is."""
        ...


class InsightFaceDetector:
    """SCRFD of InsightFace (Guo et al., ICLR 2022) on ONNX Runtime; the default.

    Args:
        size: longest side in pixels at which the network looks; a larger frame is shrunk first, a smaller one
            is taken as it is. Faces below about 1/30 of it are missed.
        threshold: least score.
        threads: of ONNX Runtime.
        providers: of ONNX Runtime, e.g. ``("CUDAExecutionProvider", "CPUExecutionProvider")``.
    """

    def __init__(
        self,
        size: int = 640,
        threshold: float = 0.5,
        threads: int = 1,
        providers: tuple[str, ...] = ("CPUExecutionProvider",),
    ) -> None:
        from insightface.model_zoo.scrfd import SCRFD

        file = weights.find("scrfd_500m")
        self.size = size
        self.threshold = threshold
        self._network = SCRFD(model_file=str(file), session=onnx_session(file, threads, providers))

    def detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        """Faces in ``frame``, the most certain first."""
        faces = self._detect_at(frame, self.size)
        # The largest anchor of the network is a good half of its input, so that a face which fills the
        # picture is seen only in a smaller copy.
        return faces or self._detect_at(frame, self.size // 4)

    def _detect_at(self, frame: NDArray[np.uint8], size: int) -> list[Face]:
        height, width = frame.shape[:2]
        scale = min(1.0, size / max(height, width))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale < 1:
            frame = np.asarray(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), np.uint8)
        # The network halves its input five times; the padding at the right and below is black.
        padded = (-(-small[0] // 32) * 32, -(-small[1] // 32) * 32)
        canvas = np.zeros((padded[1], padded[0], 3), np.uint8)
        canvas[: small[1], : small[0]] = frame[..., ::-1]  # InsightFace takes BGR
        boxes, keypoints = self._network.detect(canvas, input_size=padded, det_thresh=self.threshold)
        # Exact ratio of each axis: rounding the small size is up to half a pixel.
        stretch = np.array([width / small[0], height / small[1]], np.float32)
        return [
            Face((box[:4] * np.tile(stretch, 2)).astype(np.float32), float(box[4]), points * stretch)
            for box, points in zip(boxes, keypoints.astype(np.float32), strict=True)
        ]


class FaceAlignmentDetector:
    """S3FD of the ``face-alignment`` package (Zhang et al., ICCV 2017), which Wav2Lip and Diff2Lip use.

    It gives boxes only; the five keypoints come from the package's landmark network.

    Args:
        size: longest side in pixels at which the network looks.
        threshold: least score.
        device: of PyTorch.
    """

    def __init__(self, size: int = 640, threshold: float = 0.5, device: str = "cpu") -> None:
        require("face_alignment", "face-alignment")
        from face_alignment.detection.sfd import FaceDetector as S3FD

        file = face_alignment_weights("s3fd")
        self.size = size
        self._network = S3FD(device=device, path_to_detector=str(file), filter_threshold=threshold)
        self._landmarker = FaceAlignmentLandmarker(device=device)

    def detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        """Faces in ``frame``, the most certain first."""
        height, width = frame.shape[:2]
        scale = min(1.0, self.size / max(height, width))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrunk = frame if scale == 1 else cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        stretch = np.tile(np.array([width / small[0], height / small[1]], np.float32), 2)
        found = sorted(self._network.detect_from_image(shrunk), key=lambda row: -row[4])
        return [self._face(frame, np.asarray(row[:4], np.float32) * stretch, float(row[4])) for row in found]

    def _face(self, frame: NDArray[np.uint8], box: NDArray[np.float32], score: float) -> Face:
        unknown = Face(box, score, np.zeros((5, 2), np.float32))
        return Face(box, score, keypoints_from_landmarks(self._landmarker.landmarks(frame, unknown)))


class MediaPipeDetector:
    """MediaPipe's face landmarker (478 points): the box encloses the mesh, from the hairline to the chin.

    Made for selfies: whole frames in which the face is less than about a fifth of the height are missed.
    The model gives no confidence for a face; ``score`` is 1.

    Args:
        faces: most faces to look for.
        threshold: least confidence of MediaPipe's own detector.
    """

    def __init__(self, faces: int = 4, threshold: float = 0.5) -> None:
        self._mesh = FaceMesh(faces=faces, threshold=threshold)

    def detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        """Faces in ``frame``, the largest first."""
        found = []
        for points in self._mesh.points(frame):
            box = np.concatenate([points.min(0), points.max(0)]).astype(np.float32)
            landmarks = points[IBUG_FROM_MESH].mean(1)
            found.append(Face(box, 1.0, keypoints_from_landmarks(landmarks)))
        return sorted(found, key=lambda face: -float(np.prod(face.box[2:] - face.box[:2])))


class DlibDetector:
    """dlib's HOG detector with its 68-point predictor: frontal faces above 80 pixels; box from brows to chin.

    Args:
        upsample: how often the picture is doubled first, to find smaller faces.
        threshold: least score; dlib's scores are margins about zero, not probabilities.
    """

    def __init__(self, upsample: int = 0, threshold: float = 0.0) -> None:
        dlib = require("dlib", "dlib-bin")
        self.upsample = upsample
        self.threshold = threshold
        self._detector = dlib.get_frontal_face_detector()
        self._landmarker = DlibLandmarker()

    def detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        """Faces in ``frame``, the most certain first."""
        rectangles, scores, _ = self._detector.run(np.ascontiguousarray(frame), self.upsample, self.threshold)
        found = []
        for rectangle, score in zip(rectangles, scores, strict=True):
            box = np.array(
                [rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom()], np.float32
            )
            landmarks = self._landmarker.in_box(frame, box)
            found.append(Face(box, float(score), keypoints_from_landmarks(landmarks)))
        return sorted(found, key=lambda face: -face.score)


DETECTORS: dict[str, Callable[..., FaceDetector]] = {
    "insightface": InsightFaceDetector,
    "face-alignment": FaceAlignmentDetector,
    "mediapipe": MediaPipeDetector,
    "dlib": DlibDetector,
}


def make_detector(name: str = "insightface", **options: Any) -> FaceDetector:
    """A detector by name; ``options`` are the arguments of its class.

    Raises:
        ValueError: for an unknown name.
        MissingWeights: if its file is not on this machine (nothing is downloaded here).
        MissingPackage: if its optional package is not installed.
    """
    if name not in DETECTORS:
        raise ValueError(f"no face detector {name!r}; there are {', '.join(DETECTORS)}")
    return DETECTORS[name](**options)
