"""The Basel Face Model 2009 with FaceWarehouse's expressions, as Deep3DFaceRecon ships it.

`BFM_model_front.mat` is made by that project's `transferBFM09` from `01_MorphableModel.mat`, which the
University of Basel gives for research, and `Exp_Pca.bin`. Its bases are already times their deviations and
in decimetres, so that every coefficient has unit variance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from talkgen.errors import FileError
from talkgen.face3d.face_regions import regions_from_landmarks
from talkgen.face3d.morphable_model import MorphableModel

_NEEDED = ("meanshape", "meantex", "idBase", "exBase", "texBase", "tri", "keypoints")


def read_bfm(file: str | Path) -> MorphableModel:
    """The model in `BFM_model_front.mat`.

    Args:
        file: with `meanshape` and `meantex` (1, 3n), `idBase` (3n, 80), `exBase` (3n, 64), `texBase` (3n,
            80), `tri` (m, 3) and `keypoints` (1, 68), both counted from 1; colours 0 to 255.

    Raises:
        FileError: it cannot be read, or is the raw model of Basel.
    """
    try:
        content = loadmat(file)
    except (MatReadError, ValueError, OSError, NotImplementedError, TypeError) as error:
        raise FileError(file, f"cannot be read as a MATLAB file ({error})") from error
    if missing := [name for name in _NEEDED if name not in content]:
        raise FileError(
            file,
            f"has no {', '.join(missing)}; give BFM_model_front.mat, "
            "which Deep3DFaceRecon's transferBFM09 makes",
        )
    flat = content["meanshape"].reshape(-1)
    if any(len(content[name]) != len(flat) for name in ("idBase", "exBase", "texBase")) or len(flat) % 3:
        raise FileError(file, "its bases do not fit its mesh")
    shape = flat.reshape(-1, 3).astype(np.float32)
    landmarks = content["keypoints"].reshape(-1).astype(np.int64) - 1
    triangles = content["tri"].astype(np.int64) - 1
    if len(landmarks) != 68 or min(landmarks.min(), triangles.min()) < 0:
        raise FileError(file, "its keypoints or triangles are not 68 and counted from 1")
    if max(landmarks.max(), triangles.max()) >= len(shape):
        raise FileError(file, "its keypoints or triangles lie outside of its mesh")
    mean = shape - shape.mean(0)  # as models/bfm.py does (`recenter`)

    def basis(name: str, unit: float = 1.0) -> np.ndarray:
        return np.ascontiguousarray(
            content[name].T.reshape(-1, len(mean), 3).astype(np.float32) * np.float32(unit)
        )

    return MorphableModel(
        mean=mean,
        identity_basis=basis("idBase"),
        expression_basis=basis("exBase"),
        mean_albedo=(content["meantex"].reshape(-1, 3) / 255).astype(np.float32),
        albedo_basis=basis("texBase", 1 / 255),
        triangles=triangles.astype(np.int32),
        landmark_vertices=landmarks,
        regions=regions_from_landmarks(mean, landmarks),
    )
