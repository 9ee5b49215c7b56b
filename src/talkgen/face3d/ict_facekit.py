"""ICT-FaceKit (Li et al. 2020; MIT licence): 100 identity modes and 53 expressions named after ARKit.

`convert_ict("ICT-FaceKit/FaceXModel", "ict_facekit.npz")` makes one file of its OBJ files. Its unit is the
centimetre; here it is the decimetre.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkgen.errors import FileError
from talkgen.face3d.face_regions import regions_from_landmarks
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.npz import read_npz

FACE_VERTICES = 9409
"""The first part of the mesh: the face, without skull, eyes and teeth."""

_UNIT = 0.1  # decimetres
_DEVIATION = 0.3  # of an expression, whose full strength is 1

# The 68 points, as README and vertex_indices.json of the published model give them.
LANDMARKS = (
    1225, 1888, 1052, 367, 1719, 1722, 2199, 1447, 966, 3661, 4390, 3927, 3924, 2608, 3272, 4088, 3443, 268,
    493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
    1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5695, 2081, 0, 4275, 6200,
    6213, 6346, 6461, 5518, 5957, 5841, 5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
)  # fmt: skip


def read_ict(file: str | Path) -> MorphableModel:
    """The model in a file of `convert_ict`.

    Args:
        file: npz with `neutral` (n, 3), `ident` (100, n, 3), `expr` (53, n, 3), `tri` (m, 3), `names` (53,),
            and `landmarks` (68,), which may be absent where n is that of the published face.

    Raises:
        FileError: an array is missing, or of another shape.
    """
    arrays = read_npz(file)
    if missing := sorted({"neutral", "ident", "expr", "tri", "names"} - arrays.keys()):
        raise FileError(
            file, f"has no {', '.join(missing)}; make it with talkgen.face3d.ict_facekit.convert_ict"
        )
    neutral = arrays["neutral"].astype(np.float32)
    identity, expression = arrays["ident"].astype(np.float32), arrays["expr"].astype(np.float32)
    landmarks = arrays.get("landmarks", np.array(LANDMARKS)).astype(np.int64)
    if (
        identity.shape[1:] != neutral.shape
        or expression.shape[1:] != neutral.shape
        or landmarks.shape != (68,)
    ):
        raise FileError(file, "its bases do not fit its mesh")
    if landmarks.max() >= len(neutral):
        raise FileError(file, "its landmarks lie outside of its mesh; convert it again")
    middle = neutral[landmarks].mean(0)
    mean = (neutral - middle) * _UNIT
    names = tuple(str(name) for name in arrays["names"])
    return MorphableModel(
        mean=mean,
        identity_basis=identity * np.float32(_UNIT),
        expression_basis=expression * np.float32(_UNIT),
        mean_albedo=np.full_like(mean, 0.6),  # the light model has no skin colour
        albedo_basis=np.zeros((0, *mean.shape), np.float32),
        triangles=arrays["tri"].astype(np.int32),
        landmark_vertices=landmarks,
        regions=regions_from_landmarks(mean, landmarks),
        expression_deviation=np.full(len(expression), _DEVIATION),
        generator_names=names,
        mixing=np.eye(len(expression)),
        lip_generators=_named(names, ("mouth", "jaw", "cheekPuff")),
        eye_generators=_named(names, ("eye",)),
        brow_generators=_named(names, ("brow",)),
    )


def convert_ict(folder: str | Path, out: str | Path, vertices: int = FACE_VERTICES) -> Path:
    """One file of the folder `FaceXModel`: its neutral mesh, and every identity and expression less it.

    Args:
        folder: with `generic_neutral_mesh.obj`, `identity*.obj`, the expressions, and `vertex_indices.json`,
            which names the expressions and the landmarks.
        out: the npz.
        vertices: how many of the first vertices to keep.

    Raises:
        FileError: a file is missing, or its mesh is another one.
    """
    folder, out = Path(folder), Path(out)
    listing = folder / "vertex_indices.json"
    try:
        described = json.loads(listing.read_text())
        names, landmarks = list(described["expressions"]), list(described["idx_to_landmark_verts"])
    except (OSError, KeyError, ValueError) as error:
        raise FileError(
            listing, f"cannot be read ({error}); give the folder FaceXModel of ICT-FaceKit"
        ) from error
    neutral, triangles = _read_obj(folder / "generic_neutral_mesh.obj")
    identities = sorted(folder.glob("identity*.obj"))
    if not identities:
        raise FileError(
            folder, "has no identity000.obj and following; give the folder FaceXModel of ICT-FaceKit"
        )

    def moved(files: list[Path]) -> NDArray[np.float16]:
        shapes = []
        for file in files:
            points, _ = _read_obj(file, with_triangles=False)
            if points.shape != neutral.shape:
                raise FileError(file, f"has {len(points)} vertices, the neutral mesh {len(neutral)}")
            shapes.append((points - neutral)[:vertices].astype(np.float16))
        return np.stack(shapes)

    temporary = out.with_name(f".{out.name}.partial.npz")
    np.savez_compressed(
        temporary,
        neutral=neutral[:vertices].astype(np.float32),
        ident=moved(identities),
        expr=moved([folder / f"{name}.obj" for name in names]),
        tri=triangles[(triangles < vertices).all(1)].astype(np.int32),
        names=np.array(names),
        landmarks=np.array(landmarks, np.int64),
    )
    temporary.replace(out)
    return out


def _read_obj(file: Path, with_triangles: bool = True) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and triangles of an OBJ file; polygons are cut into fans."""
    points, triangles = [], []
    try:
        with file.open() as lines:
            for line in lines:
                if line.startswith("v "):
                    points.append([float(word) for word in line.split()[1:4]])
                elif with_triangles and line.startswith("f "):
                    corners = [int(word.partition("/")[0]) - 1 for word in line.split()[1:]]
                    triangles += [(corners[0], a, b) for a, b in pairwise(corners[1:])]
    except (OSError, ValueError) as error:
        raise FileError(file, f"cannot be read as an OBJ file ({error})") from error
    return np.array(points), np.array(triangles, np.int64).reshape(-1, 3)


def _named(names: tuple[str, ...], beginnings: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(number for number, name in enumerate(names) if name.startswith(beginnings))
