"""Readers of published morphable models, on small models in their layouts; no published number is needed."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from talkgen.errors import FileError, TalkgenError
from talkgen.face3d.coefficients import SIZE, Coefficients, rotation
from talkgen.face3d.fitting import crop_camera, fit_landmarks
from talkgen.face3d.flame import convert_flame, read_flame
from talkgen.face3d.head import build_head
from talkgen.face3d.ict_facekit import convert_ict, read_ict
from talkgen.face3d.model_files import open_morphable_model
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.faces.crop import CROPS

HEAD = build_head()
RANDOM = np.random.default_rng(0)


def sound(model: MorphableModel) -> None:
    """What every model must be."""
    n = len(model.mean)
    for basis in (model.identity_basis, model.expression_basis, model.albedo_basis):
        assert basis.shape[1:] == (n, 3) and basis.dtype == np.float32
    assert {"face", "lip", "eye", "brow", "nose", "jaw"} <= model.regions.keys()
    for name in ("lip", "eye", "brow", "nose", "jaw"):
        assert 0 < model.regions[name].sum() < n and model.regions[name].shape == (n,)
    assert not (model.regions["lip"] & model.regions["eye"]).any()
    assert not (model.regions["jaw"] & model.regions["lip"]).any()
    points = model.landmarks68(np.zeros(len(model.identity_basis)), np.zeros(len(model.expression_basis)))
    assert 0.4 < np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0)) < 1.2  # decimetres
    assert points[36, 0] < points[45, 0] and points[8, 1] < points[27, 1]
    sized = model.resized()
    assert [len(b) for b in (sized.identity_basis, sized.expression_basis, sized.albedo_basis)] == [
        80,
        64,
        80,
    ]
    assert sized.resized() is sized


def fits(model: MorphableModel, tolerance: float = 1.0) -> None:
    """Its own drawing is explained by it."""
    model = model.resized()
    camera = crop_camera(replace(CROPS["face"], size=256))
    random = np.random.default_rng(1)
    expression = (
        0.5 * model.expression_deviation * np.sin(np.arange(12)[:, None] / 3 + random.uniform(0, 6, 64))
    )
    angle = np.stack([0.1 * np.sin(np.arange(12) / 4)] * 3, 1)
    points = model.landmarks68(0.5 * random.normal(size=80), expression)
    fit = fit_landmarks(model, camera.project(np.einsum("fij,flj->fli", rotation(angle), points)), camera)
    assert fit.coefficients.shape == (12, SIZE)
    assert fit.residual.max() < tolerance
    assert np.abs(Coefficients.unpack(fit.coefficients).angle - angle).max() < 0.15


# ICT-FaceKit ------------------------------------------------------------------------------------------------

NAMES = ("eyeBlink_L", "jawOpen", "browDown_R")


def write_ict(folder: Path) -> np.ndarray:
    """OBJ files with the head's mesh, in centimetres and as quads where two triangles are one."""
    folder.mkdir()
    neutral = HEAD.mean * 10

    def write(name: str, points: np.ndarray) -> None:
        lines = ["# a comment", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points)]
        first, second, *rest = HEAD.triangles + 1
        lines += [f"f {first[0]}/1 {first[1]}/2 {first[2]}/3 {second[0]}/4"]
        lines += [f"f {a}/1/1 {b}/2/2 {c}/3/3" for a, b, c in rest]
        (folder / f"{name}.obj").write_text("\n".join(lines))

    write("generic_neutral_mesh", neutral)
    for number in range(2):
        write(f"identity{number:03d}", neutral + HEAD.identity_basis[number] * 10)
    for number, name in enumerate(NAMES):
        write(name, neutral + HEAD.expression_basis[number] * 10)
    listing = {"expressions": NAMES, "idx_to_landmark_verts": HEAD.landmark_vertices.tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(listing))
    return neutral


def test_ict_facekit_is_converted_and_read(tmp_path: Path) -> None:
    write_ict(tmp_path / "FaceXModel")
    file = convert_ict(tmp_path / "FaceXModel", tmp_path / "ict.npz", vertices=len(HEAD.mean))
    model = open_morphable_model(file)
    sound(model)
    assert model.generator_names == NAMES
    assert (model.eye_generators, model.lip_generators, model.brow_generators) == ((0,), (1,), (2,))
    shift = HEAD.mean - model.mean
    assert np.abs(shift - shift[0]).max() < 1e-5  # the same mesh, moved
    np.testing.assert_allclose(model.expression_basis, HEAD.expression_basis[:3], atol=2e-4)
    np.testing.assert_allclose(model.identity_basis, HEAD.identity_basis[:2], atol=2e-4)
    assert len(model.triangles) == len(HEAD.triangles)
    fits(model)
    assert list(tmp_path.glob(".*")) == []


def test_ict_facekit_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"vertex_indices\.json.*FaceXModel"):
        convert_ict(tmp_path, tmp_path / "ict.npz")
    write_ict(tmp_path / "FaceXModel")
    (tmp_path / "FaceXModel/jawOpen.obj").unlink()
    with pytest.raises(FileError, match=r"jawOpen\.obj"):
        convert_ict(tmp_path / "FaceXModel", tmp_path / "ict.npz")
    assert not (tmp_path / "ict.npz").exists()
    np.savez(tmp_path / "part.npz", neutral=HEAD.mean, ident=HEAD.identity_basis, expr=HEAD.expression_basis)
    with pytest.raises(FileError, match="has no names, tri"):
        open_morphable_model(tmp_path / "part.npz")


def test_the_published_face_has_its_landmarks(shared: Path) -> None:
    file = shared / "realdata/ict_facekit_face.npz"
    if not file.is_file():
        pytest.skip("needs realdata/ict_facekit_face.npz")
    model = read_ict(file)
    sound(model)
    assert (len(model.mean), len(model.identity_basis), len(model.expression_basis)) == (9409, 100, 53)
    motion = np.linalg.norm(model.expression_basis, axis=2)
    names = list(model.generator_names)
    assert motion[names.index("eyeBlink_L")][model.regions["lip"]].max() < 1e-3
    assert motion[names.index("jawOpen")][model.regions["brow"]].max() < 0.005
    jaw = model.mean + model.expression_basis[names.index("jawOpen")]
    ids = model.landmark_vertices
    assert (
        np.linalg.norm(jaw[ids[62]] - jaw[ids[66]])
        > 0.15
        > np.linalg.norm(model.mean[ids[62]] - model.mean[ids[66]])
    )
    fits(model, 1.5)


# Basel Face Model -------------------------------------------------------------------------------------------


def bfm_content() -> dict[str, Any]:
    return {
        "meanshape": HEAD.mean.reshape(1, -1) + 0.5,
        "meantex": HEAD.mean_albedo.reshape(1, -1) * 255,
        "idBase": HEAD.identity_basis.reshape(80, -1).T,
        "exBase": HEAD.expression_basis.reshape(64, -1).T,
        "texBase": HEAD.albedo_basis.reshape(80, -1).T * 255,
        "tri": HEAD.triangles.astype(np.float64) + 1,
        "keypoints": HEAD.landmark_vertices[None].astype(np.float64) + 1,
    }


def test_bfm_is_read_as_deep3d_ships_it(tmp_path: Path) -> None:
    savemat(tmp_path / "BFM_model_front.mat", bfm_content())
    model = open_morphable_model(tmp_path / "BFM_model_front.mat")
    sound(model)
    np.testing.assert_allclose(model.mean, HEAD.mean - HEAD.mean.mean(0), atol=1e-5)
    for name in ("identity_basis", "expression_basis", "albedo_basis", "mean_albedo"):
        np.testing.assert_allclose(getattr(model, name), getattr(HEAD, name), atol=1e-5)
    np.testing.assert_array_equal(model.triangles, HEAD.triangles)
    np.testing.assert_array_equal(model.landmark_vertices, HEAD.landmark_vertices)
    assert model.resized() is model
    with pytest.raises(ValueError, match="not known"):
        model.generator_basis()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"idBase": None}, "has no idBase; give BFM_model_front.mat"),
        ({"exBase": np.zeros((30, 64))}, "do not fit its mesh"),
        ({"keypoints": np.zeros((1, 68))}, "counted from 1"),
        ({"tri": np.full((4, 3), 10**6)}, "outside of its mesh"),
    ],
)
def test_another_mat_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = {name: array for name, array in (bfm_content() | change).items() if array is not None}
    savemat(tmp_path / "bfm.mat", content)
    with pytest.raises(FileError, match=message):
        open_morphable_model(tmp_path / "bfm.mat")


# FLAME ------------------------------------------------------------------------------------------------------


def flame_content() -> dict[str, Any]:
    """The head in metres, with a jaw joint by the ears that carries what lies low."""
    template = (HEAD.mean / 10).astype(np.float64)
    n = len(template)
    weights = np.zeros((n, 5))
    weights[:, 2] = np.clip(-template[:, 1] / 0.05, 0, 1)
    weights[:, 1] = 1 - weights[:, 2]
    joints = np.zeros((5, n))
    joints[:, np.abs(template - [0, 0, 0]).sum(1).argmin()] = 1.0
    shapes = np.zeros((n, 3, 310))
    shapes[..., :80] = np.moveaxis(HEAD.identity_basis, 0, 2) / 10
    shapes[..., 300:] = np.moveaxis(HEAD.expression_basis[:10], 0, 2) / 10
    return {
        "v_template": template,
        "shapedirs": shapes,
        "posedirs": RANDOM.normal(size=(n, 3, 36)) * 1e-4,
        "J_regressor": csc_matrix(joints),
        "weights": weights,
        "f": HEAD.triangles.astype(np.uint32),
        "bs_type": "lrotmin",
    }


def embedding() -> dict[str, np.ndarray]:
    """Landmarks at a corner of a triangle that has them."""
    faces = np.array([np.flatnonzero((HEAD.triangles == v).any(1))[0] for v in HEAD.landmark_vertices])
    inside = (HEAD.triangles[faces] == HEAD.landmark_vertices[:, None]).astype(float)
    return {"full_lmk_faces_idx": faces[None], "full_lmk_bary_coords": inside[None]}


class _Ch:
    """What chumpy's arrays are pickled as."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x


def write_flame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, dict[str, Any]]:
    content = flame_content()
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    _Ch.__module__, _Ch.__name__, _Ch.__qualname__ = "chumpy.ch", "Ch", "Ch"
    module.Ch = _Ch  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "chumpy", package)
        patch.setitem(sys.modules, "chumpy.ch", module)
        held = content | {"shapedirs": _Ch(content["shapedirs"])}
        (folder / "generic_model.pkl").write_bytes(pickle.dumps(held, protocol=2))
    np.save(folder / "landmark_embedding.npy", np.array(embedding(), dtype=object), allow_pickle=True)
    return folder / "generic_model.pkl", folder / "landmark_embedding.npy", content


def test_flame_is_converted_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled, landmarks, content = write_flame(tmp_path, monkeypatch)
    assert "chumpy" not in sys.modules
    model = open_morphable_model(convert_flame(pickled, landmarks, tmp_path / "flame.npz"))
    sound(model)
    n = len(HEAD.mean)
    assert len(model.mean) == n + 68 and model.triangles.max() < n
    np.testing.assert_allclose(
        model.mean[model.landmark_vertices], model.mean[HEAD.landmark_vertices], atol=1e-6
    )
    np.testing.assert_allclose(model.identity_basis[:80, :n], HEAD.identity_basis, atol=1e-5)
    np.testing.assert_allclose(model.expression_basis[3:, :n], HEAD.expression_basis[:10], atol=1e-5)
    fits(model)

    # the jaw: FLAME's own formula at a small angle
    for axis, size in enumerate((1e-3, 1e-3, 1e-3)):
        angle = np.zeros(3)
        angle[axis] = size
        turn = rotation(angle)
        corrective = content["posedirs"][..., 9:18] @ (turn - np.eye(3)).reshape(-1)
        joint = content["J_regressor"].toarray()[2] @ content["v_template"]
        resting = content["v_template"] + corrective
        share = content["weights"][:, 2, None]
        posed = (1 - share) * resting + share * ((resting - joint) @ turn.T + joint)
        expected = (posed - content["v_template"]) * 10 / size
        np.testing.assert_allclose(model.expression_basis[axis, :n], expected, atol=0.01)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo harm",)


def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled, landmarks, _ = write_flame(tmp_path, monkeypatch)
    with pytest.raises(FileError, match=r"can run code when it is read; .*convert_flame"):
        open_morphable_model(pickled)
    harm: list[str] = []
    monkeypatch.setattr(os, "system", harm.append)
    evil = tmp_path / "evil.pkl"
    for inside in (_Evil(), np.array([_Evil()], dtype=object)):
        evil.write_bytes(pickle.dumps({"v_template": inside}))
        with pytest.raises(FileError, match="something else than arrays"):
            convert_flame(evil, landmarks, tmp_path / "flame.npz")
    # objects made in the way of Python 2
    evil.write_bytes(b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.")
    with pytest.raises(FileError, match="something else than arrays"):
        convert_flame(evil, landmarks, tmp_path / "flame.npz")
    np.save(tmp_path / "evil.npy", np.array(_Evil(), dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="something else than arrays"):
        convert_flame(pickled, tmp_path / "evil.npy", tmp_path / "flame.npz")
    assert harm == [] and not (tmp_path / "flame.npz").exists()


def test_incomplete_flame_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled, _, content = write_flame(tmp_path, monkeypatch)
    np.savez(tmp_path / "raw.npz", **{k: v for k, v in content.items() if isinstance(v, np.ndarray)})
    with pytest.raises(FileError, match="has no J_regressor, landmark_faces"):
        read_flame(tmp_path / "raw.npz")
    with pytest.raises(FileError, match="has no full_lmk_faces_idx"):
        convert_flame(pickled, tmp_path / "raw.npz", tmp_path / "flame.npz")


# Any --------------------------------------------------------------------------------------------------------


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert open_morphable_model("demo") is build_head()
    with pytest.raises(TalkgenError, match="no such file; give demo"):
        open_morphable_model(tmp_path / "lost.npz")
    for name, cause in (
        ("a.npz", "cannot be read"),
        ("a.mat", "cannot be read"),
        ("a.bin", "no morphable model"),
    ):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(FileError, match=cause):
            open_morphable_model(tmp_path / name)
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    with pytest.raises(FileError, match="neither ICT-FaceKit"):
        open_morphable_model(tmp_path / "x.npz")
