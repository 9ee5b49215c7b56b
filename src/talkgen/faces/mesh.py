"""MediaPipe's face mesh: 478 points of a face, and which of them are the 68 of iBUG."""

from __future__ import annotations

import atexit
import functools
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from talkgen import weights
from talkgen.faces.runtime import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows: iBUG points 0..67; the two mesh points whose mean stands nearest. Found by comparing with dlib on real
# clips, then made symmetric (the mesh is: 33 mirrors 263, 61 mirrors 291, ...).
# fmt: off
IBUG_FROM_MESH = np.array([
    # outline of the face, from the left ear of the picture over the chin to the right ear
    (127, 127), (234, 234), (93, 93), (132, 132), (172, 138), (136, 136), (149, 149), (148, 148), (152, 152),
    (377, 377), (378, 378), (365, 365), (397, 367), (361, 361), (323, 323), (454, 454), (356, 356),
    # left and right brow
    (70, 70), (63, 63), (105, 105), (66, 66), (107, 107),
    (336, 336), (296, 296), (334, 334), (293, 293), (300, 300),
    # nose: bridge, then wings
    (168, 168), (6, 197), (5, 195), (4, 4), (240, 240), (97, 97), (2, 2), (326, 326), (460, 460),
    # left and right eye
    (33, 33), (160, 160), (158, 158), (155, 155), (153, 153), (144, 144),
    (382, 382), (385, 385), (387, 387), (263, 263), (373, 373), (380, 380),
    # outer lips
    (61, 61), (39, 39), (37, 37), (0, 0), (267, 267), (269, 269), (291, 291),
    (405, 405), (314, 314), (17, 17), (84, 84), (181, 181),
    # inner lips
    (78, 78), (82, 82), (13, 13), (312, 312), (308, 308), (317, 317), (14, 14), (87, 87),
])
# fmt: on


@functools.cache
def _open(file: str, faces: int, threshold: float) -> Any:
    """The landmarker, which is kept until the process ends.

    Its clean-up waits for a thread of its own. Garbage collection may end that thread first, and what
    happened to run then would wait forever; at the end of the interpreter it is gone in any case, and a
    traceback is printed. The end of the process frees the model anyway.
    """
    tasks = require("mediapipe.tasks.python", "'talkgen[mediapipe]'")
    _ignore_profiling_signals()
    options = tasks.vision.FaceLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=file),
        num_faces=faces,
        min_face_detection_confidence=threshold,
    )
    landmarker = tasks.vision.FaceLandmarker.create_from_options(options)
    atexit.register(_forget, landmarker)
    return landmarker


def _forget(landmarker: Any) -> None:
    landmarker._handle = None


class FaceMesh:
    """MediaPipe Tasks' face landmarker on single pictures.

    Args:
        faces: most faces to look for.
        threshold: least confidence of its detector.

    Raises:
        MissingPackage: without ``mediapipe``. MissingWeights: without ``face_landmarker.task``.
    """

    def __init__(self, faces: int = 1, threshold: float = 0.5) -> None:
        self._mediapipe = require("mediapipe", "'talkgen[mediapipe]'")
        self._landmarker = _open(str(weights.find("face_landmarker")), faces, threshold)

    def points(self, frame: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The 478 points (478, 2) of every face found, in pixels; uint8 RGB in."""
        height, width = frame.shape[:2]
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
        )
        found = self._landmarker.detect(picture).face_landmarks
        # MediaPipe counts from the corner of the picture; here the centre of the first pixel is (0, 0).
        return [
            np.array([(point.x * width - 0.5, point.y * height - 0.5) for point in face], np.float32)
            for face in found
        ]


def _ignore_profiling_signals() -> None:
    """Let MediaPipe's own profiler do no harm.

    Its library starts SIGPROF timers and ignores the signal behind Python's back. Whoever restores the
    handlers that Python knows of (Lightning does at the end of ``Trainer.fit``) would make the next tick kill
    the process. A handler that somebody has set stays.
    """
    known = hasattr(signal, "SIGPROF") and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL
    if known and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
