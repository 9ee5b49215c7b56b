"""FLAME (Li et al. 2017), which the Max Planck Institute gives after registration, under its licence.

It comes as a pickle, a format that can run any code when it is read. `convert_flame("generic_model.pkl",
"landmark_embedding.npy", "flame.npz")` reads numbers out of it and nothing else; the npz is what is used.

FLAME turns the jaw about a joint; a linear model cannot. Here the jaw's three angles are the first three
expression coefficients, to first order (v' = a × (v − joint), plus the corrective shapes), which at a wide
open mouth of 0.3 radians is off by a seventh of the movement at most. Neck and eyeballs do not turn.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from talkgen.errors import FileError
from talkgen.face3d.face_regions import regions_from_landmarks
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.npz import read_npz

_UNIT = 10.0  # decimetres in a metre
_JAW = 2  # of the joints root, neck, jaw, left eye, right eye
_IDENTITIES = 300  # of the shape directions; the others are expressions
_JAW_DEVIATION = (0.15, 0.03, 0.03)  # radians about x, y, z
_ARRAYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f")
_LANDMARKS = ("landmark_faces", "landmark_weights")
# what numpy itself has its arrays and numbers unpickled with, wherever this version keeps it
_RECONSTRUCT, _SCALAR = np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]


def read_flame(file: str | Path) -> MorphableModel:
    """The model in a file of `convert_flame`.

    The landmarks lie inside of triangles; they are added to the mesh as vertices of their own, behind the
    others and in no triangle.

    Args:
        file: npz with `v_template` (n, 3) in metres, `shapedirs` (n, 3, 300 + expressions), `posedirs` (n,
            3, 36), `J_regressor` (5, n), `weights` (n, 5), `f` (m, 3), `landmark_faces` (68,),
            `landmark_weights` (68, 3).

    Raises:
        FileError: an array is missing, or of another shape.
    """
    arrays = read_npz(file)
    if missing := [name for name in (*_ARRAYS, *_LANDMARKS) if name not in arrays]:
        raise FileError(file, f"has no {', '.join(missing)}; make it with talkgen.face3d.flame.convert_flame")
    template = arrays["v_template"].astype(np.float64)
    shapes, triangles = arrays["shapedirs"].astype(np.float64), arrays["f"].astype(np.int64)
    n = len(template)
    if shapes.shape[:2] != (n, 3) or shapes.shape[2] <= _IDENTITIES or arrays["posedirs"].shape != (n, 3, 36):
        raise FileError(file, f"its shape directions are not (n, 3, {_IDENTITIES} + expressions)")
    if arrays["weights"].shape != (n, 5) or arrays["J_regressor"].shape != (5, n):
        raise FileError(file, "its joints are not root, neck, jaw and two eyes")
    if arrays["landmark_faces"].shape != (68,) or arrays["landmark_weights"].shape != (68, 3):
        raise FileError(file, "its landmarks are not 68 places in triangles")

    joint = arrays["J_regressor"][_JAW].astype(np.float64) @ template
    basis = np.moveaxis(shapes, 2, 0)
    jaw = [_turned(axis, template - joint, arrays) for axis in range(3)]
    expression = np.concatenate([np.stack(jaw), basis[_IDENTITIES:]])
    corners = triangles[arrays["landmark_faces"]]

    def with_landmarks(field: NDArray[np.float64]) -> NDArray[np.float32]:
        inside = np.einsum("lc,...lcd->...ld", arrays["landmark_weights"], field[..., corners, :])
        return (np.concatenate([field, inside], axis=-2) * _UNIT).astype(np.float32)

    mean = with_landmarks(template - template[corners].mean((0, 1)))
    landmarks = n + np.arange(68)
    deviation = np.ones(len(expression))
    deviation[:3] = _JAW_DEVIATION
    return MorphableModel(
        mean=mean,
        identity_basis=with_landmarks(basis[:_IDENTITIES]),
        expression_basis=with_landmarks(expression),
        mean_albedo=np.full_like(mean, 0.6),
        albedo_basis=np.zeros((0, *mean.shape), np.float32),
        triangles=triangles.astype(np.int32),
        landmark_vertices=landmarks,
        regions=regions_from_landmarks(mean, landmarks),
        expression_deviation=deviation,
    )


def _turned(axis: int, from_joint: NDArray[np.float64], arrays: dict[str, NDArray]) -> NDArray[np.float64]:
    """How vertices begin to move when the jaw turns about an axis: skinning, and the corrective shapes,
    which are linear in R − 1.
    """
    slope = np.zeros((3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    slope[i, j], slope[j, i] = -1.0, 1.0
    place = 9 * (_JAW - 1)  # the root has no corrective shapes
    corrective = arrays["posedirs"][..., place : place + 9].astype(np.float64) @ slope.reshape(-1)
    moved: NDArray[np.float64] = arrays["weights"][:, _JAW, None] * (from_joint @ slope.T) + corrective
    return moved


# Conversion -------------------------------------------------------------------------------------------------


def convert_flame(model: str | Path, landmarks: str | Path, out: str | Path) -> Path:
    """One npz of FLAME's pickle and an embedding of the 68 landmarks, without running what a pickle may hold.

    Args:
        model: `generic_model.pkl`, or an npz of the same arrays.
        landmarks: `landmark_embedding.npy` as DECA ships it (`full_lmk_faces_idx`, `full_lmk_bary_coords`),
            or an npz of the same arrays.
        out: the npz.

    Raises:
        FileError: a file holds other things than arrays, or not those.
    """
    model, landmarks, out = Path(model), Path(landmarks), Path(out)
    content, embedding = _arrays(model), _arrays(landmarks)
    if missing := [name for name in _ARRAYS if name not in content]:
        raise FileError(model, f"has no {', '.join(missing)}; give FLAME's generic_model.pkl")
    if not {"full_lmk_faces_idx", "full_lmk_bary_coords"} <= embedding.keys():
        raise FileError(
            landmarks, "has no full_lmk_faces_idx and full_lmk_bary_coords; give an embedding of 68 points"
        )
    temporary = out.with_name(f".{out.name}.partial.npz")
    np.savez_compressed(
        temporary,
        landmark_faces=np.asarray(embedding["full_lmk_faces_idx"]).reshape(-1).astype(np.int64),
        landmark_weights=np.asarray(embedding["full_lmk_bary_coords"]).reshape(-1, 3).astype(np.float64),
        **{name: np.asarray(content[name]) for name in _ARRAYS},  # type: ignore[arg-type]
    )
    temporary.replace(out)
    read_flame(out)  # says what does not fit
    return out


class _Holder:
    """Stands for an object of another package: keeps what it held, and does nothing."""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = dict(state)

    def array(self) -> NDArray:
        """The numbers: of a chumpy array, or of a sparse matrix."""
        state = self.state
        if "indptr" in state:
            shape = state.get("_shape", state.get("shape"))
            return csc_matrix((state["data"], state["indices"], state["indptr"]), shape=shape).toarray()
        return np.asarray(state["x"])


class _Numbers(pickle.Unpickler):
    """Admits numpy arrays, and holders for chumpy arrays and sparse matrices; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("chumpy.ch", "Ch"), ("chumpy", "Ch")) or (
            module.startswith("scipy.sparse") and name == "csc_matrix"
        ):
            return _Holder
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return _reconstruct_holder
        if (module, name) in (("__builtin__", "object"), ("builtins", "object")):
            return object
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in (
            "_reconstruct",
            "scalar",
        ):
            return _RECONSTRUCT if name == "_reconstruct" else _SCALAR
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def _reconstruct_holder(kind: type, *_: Any) -> _Holder:
    """What Python 2 made objects with; only holders are made."""
    if kind is not _Holder:
        raise pickle.UnpicklingError(f"it wants an object of {kind}")
    return _Holder()


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How pickles of old protocols hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it wants text as {encoding}")
    return text.encode("latin1")


def _arrays(file: Path) -> dict[str, Any]:
    """Named arrays of an npz, of a pickled dictionary, or of one in an npy file."""
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as content:
                return {name: content[name] for name in content.files}
        with file.open("rb") as handle:
            if file.suffix == ".npy":
                _skip_npy_header(handle)
            found = _Numbers(handle, encoding="latin1").load()
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise FileError(file, f"holds something else than arrays ({error})") from error
    if isinstance(found, np.ndarray) and found.dtype == object:
        found = found.item()
    if not isinstance(found, dict):
        raise FileError(file, "holds no named arrays")
    return {
        str(name): value.array() if isinstance(value, _Holder) else value
        for name, value in found.items()
        if isinstance(value, _Holder | np.ndarray)
    }


def _skip_npy_header(handle: IO[bytes]) -> None:
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read(handle)
