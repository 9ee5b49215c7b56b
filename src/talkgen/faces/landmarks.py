"""The 68 points of iBUG from every backend, so that metrics and masks need not know which one ran.

Their order is told in `talkgen.faces.ibug`. Backends with other layouts are mapped by index; how far the
maps are from dlib's points is measured in ``docs/performance/faces.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from talkgen import weights
from talkgen.errors import FileError
from talkgen.faces.alignment import identity_warp
from talkgen.faces.crop import invert, transform_points
from talkgen.faces.ibug import keypoints_from_landmarks as keypoints_from_landmarks
from talkgen.faces.mesh import IBUG_FROM_MESH, FaceMesh
from talkgen.faces.runtime import face_alignment_weights, onnx_session, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talkgen.faces.detection import Face

# Rows: iBUG points 0..67; the two of InsightFace's 106 points whose mean stands nearest (found by comparing
# with dlib on real clips, then made symmetric). Its outline is denser: some iBUG points fall between two.
# fmt: off
IBUG_FROM_106 = np.array([
    (9, 9), (11, 11), (13, 13), (15, 15), (16, 2), (3, 4), (5, 6), (7, 7), (0, 0),
    (23, 23), (21, 22), (19, 20), (32, 18), (31, 31), (29, 29), (27, 27), (25, 25),
    (43, 43), (48, 48), (49, 49), (51, 51), (50, 50),
    (102, 102), (103, 103), (104, 104), (105, 105), (101, 101),
    (72, 72), (73, 73), (74, 74), (86, 86), (78, 78), (79, 79), (80, 80), (85, 85), (84, 84),
    (35, 35), (41, 41), (42, 42), (39, 39), (37, 37), (36, 36),
    (89, 89), (95, 95), (96, 96), (93, 93), (91, 91), (90, 90),
    (52, 52), (64, 64), (63, 63), (71, 71), (67, 67), (68, 68), (61, 61),
    (58, 58), (59, 59), (53, 53), (56, 56), (55, 55),
    (65, 65), (66, 66), (62, 62), (70, 70), (69, 69), (57, 57), (60, 60), (54, 54),
])
# fmt: on


class Landmarker(Protocol):
    """Anything that finds the 68 points of a detected face."""

    def landmarks(self, frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """float32 (68, 2) in pixels of ``frame`` (uint8 RGB); NaN if the backend finds no face there."""
        ...


class InsightFaceLandmarker:
    """InsightFace's 106-point network (2d106det), mapped to 68.

    Args:
        threads: of ONNX Runtime.
        providers: of ONNX Runtime.
    """

    def __init__(self, threads: int = 1, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        from insightface.model_zoo.landmark import Landmark

        file = weights.find("landmarks_106")
        self._network = Landmark(model_file=str(file), session=onnx_session(file, threads, providers))

    def landmarks(self, frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """float32 (68, 2) in pixels of ``frame``."""
        # The network looks at 1.5 boxes; only that part of a large frame is turned into BGR.
        part, offset = _around(frame, face.box, margin=0.5)
        if part.size == 0:
            return np.full((68, 2), np.nan, np.float32)
        # InsightFace's faces are dictionaries with attributes; it stores its result under a key as well.
        query = _Query(face.box - np.tile(offset, 2))
        points = self._network.get(np.ascontiguousarray(part[..., ::-1]), query)
        return np.asarray(points, np.float32)[IBUG_FROM_106].mean(1) + offset


class _Query(dict[str, Any]):
    """The part of InsightFace's ``Face`` that its landmark network reads."""

    def __init__(self, bbox: NDArray[np.float32]) -> None:
        super().__init__()
        self.bbox = bbox


class MediaPipeLandmarker:
    """MediaPipe's 478 points, mapped to 68; looks at a square around the face, so small ones are found."""

    def __init__(self) -> None:
        self._mesh = FaceMesh(faces=1, threshold=0.3)

    def landmarks(self, frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """float32 (68, 2) in pixels of ``frame``; NaN if MediaPipe finds no face there."""
        part, offset = _around(frame, face.box, margin=0.5)
        found = self._mesh.points(part) if part.size else []
        if not found:
            return np.full((68, 2), np.nan, np.float32)
        points: NDArray[np.float32] = found[0][IBUG_FROM_MESH].mean(1) + offset
        return points


# Where dlib's own detector puts its box, in pixels of the ArcFace template: mean centre and side over real
# clips. The predictor starts from the mean face in that box, and other detectors' boxes lead it astray.
_DLIB_CENTRE, _DLIB_SIDE = (55.9, 71.1), 88.0


class DlibLandmarker:
    """dlib's regression trees (Kazemi and Sullivan, CVPR 2014): the points of many published LMD tables."""

    def __init__(self) -> None:
        self._dlib = require("dlib", "'talkgen[dlib]'")
        file = weights.find("dlib_68")
        try:
            self._predictor = self._dlib.shape_predictor(str(file))
        except RuntimeError as error:
            raise FileError(file, f"is no dlib shape predictor: {error}") from error

    def landmarks(self, frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """float32 (68, 2) in pixels of ``frame``; dlib rounds them to whole pixels.

        The region is computed from the keypoints, so that it is the same whichever detector found the face.
        """
        to_frame = invert(identity_warp(face.keypoints))
        centre = transform_points(to_frame, [_DLIB_CENTRE])[0]
        half = _DLIB_SIDE / 2 * float(np.sqrt(np.linalg.det(to_frame[:, :2])))
        return self.in_box(frame, np.concatenate([centre - half, centre + half]))

    def in_box(self, frame: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32 (68, 2) for a box as dlib's own detector gives it."""
        rectangle = self._dlib.rectangle(*(round(float(value)) for value in box))
        points = self._predictor(np.ascontiguousarray(frame), rectangle).parts()
        return np.array([(point.x, point.y) for point in points], np.float32)


class FaceAlignmentLandmarker:
    """FAN of the ``face-alignment`` package (Bulat and Tzimiropoulos, ICCV 2017).

    Args:
        device: of PyTorch.
    """

    def __init__(self, device: str = "cpu") -> None:
        require("face_alignment", "face-alignment")
        import torch
        from face_alignment.models import FAN

        file = face_alignment_weights("fan_2d")
        self.device = device
        self._network = FAN(4)
        try:
            self._network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except (RuntimeError, ValueError, TypeError, LookupError, EOFError, UnpicklingError) as error:
            raise FileError(file, f"is no state dict of the FAN of face-alignment 1.5: {error}") from error
        self._network.to(device).eval()

    def landmarks(self, frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        """float32 (68, 2) in pixels of ``frame``."""
        import torch
        from face_alignment.utils import crop, flip, get_preds_fromhm

        x0, y0, x1, y1 = face.box.astype(float)
        # Constants of the package: the box is moved up by 12 % of its height, and 195 pixels are scale 1.
        centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2 - 0.12 * (y1 - y0)])
        scale = (x1 - x0 + y1 - y0) / 195
        picture = np.ascontiguousarray(crop(frame, centre, scale).transpose(2, 0, 1), dtype=np.float32)
        batch = torch.from_numpy(picture)[None].to(self.device) / 255
        with torch.inference_mode():
            heatmaps = _last(self._network(batch)) + flip(_last(self._network(flip(batch))), is_label=True)
        _, points, _ = get_preds_fromhm(heatmaps.cpu().numpy(), centre, scale)
        return np.asarray(points, np.float32).reshape(68, 2)


def _last(stages: Any) -> Any:
    """The heat maps of the last hourglass."""
    return stages[-1] if isinstance(stages, list | tuple) else stages


def _around(
    frame: NDArray[np.uint8], box: NDArray[np.float32], margin: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The square part of ``frame`` around a box with ``margin`` box sides on every side, and its corner."""
    height, width = frame.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, float(max(box[2:] - box[:2])) * (0.5 + margin)
    x0, y0 = (max(0, int(value)) for value in np.floor(centre - half))
    x1, y1 = (int(value) for value in np.ceil(centre + half))
    return frame[y0 : min(height, y1), x0 : min(width, x1)], np.array([x0, y0], np.float32)


LANDMARKERS: dict[str, Callable[..., Landmarker]] = {
    "insightface": InsightFaceLandmarker,
    "face-alignment": FaceAlignmentLandmarker,
    "mediapipe": MediaPipeLandmarker,
    "dlib": DlibLandmarker,
}


def make_landmarker(name: str = "insightface", **options: Any) -> Landmarker:
    """A landmarker by name; ``options`` are the arguments of its class.

    Raises:
        ValueError: for an unknown name.
        MissingWeights: if its file is not on this machine (nothing is downloaded here).
        MissingPackage: if its optional package is not installed.
    """
    if name not in LANDMARKERS:
        raise ValueError(f"no landmarker {name!r}; there are {', '.join(LANDMARKERS)}")
    return LANDMARKERS[name](**options)
