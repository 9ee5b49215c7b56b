"""The linear model: bases, landmarks, and the exact map between movements and entangled coefficients."""

import numpy as np
import pytest

from talkgen.face3d.coefficients import SIZE, Coefficients, rotation
from talkgen.face3d.head import _generator_scatter, build_head, face_weight
from talkgen.face3d.head_mesh import head_mesh
from talkgen.face3d.head_motion import BROW_GENERATORS, EYE_GENERATORS, GENERATORS, LIP_GENERATORS

HEAD = build_head()
STILL = np.zeros(64)


def moved(**generators: float) -> np.ndarray:
    """Vertices of the mean head with some movements."""
    g = np.array([generators.get(name, 0.0) for name in GENERATORS])
    return HEAD.vertices(np.zeros(80), HEAD.generators_to_coefficients(g))


def test_sizes_are_those_of_the_257_coefficients():
    assert HEAD.identity_basis.shape[0] == 80
    assert HEAD.expression_basis.shape[0] == 64
    assert HEAD.albedo_basis.shape[0] == 80
    assert 3000 <= len(HEAD.mean) <= 6000
    assert (len(LIP_GENERATORS), len(EYE_GENERATORS), len(BROW_GENERATORS)) == (16, 8, 6)


def test_vertices_are_the_sum_that_the_formula_says():
    random = np.random.default_rng(0)
    identity, expression = random.normal(size=80), random.normal(size=64)
    vertex = 1234
    by_hand = HEAD.mean[vertex].astype(float)
    for i in range(80):
        by_hand = by_hand + identity[i] * HEAD.identity_basis[i, vertex]
    for i in range(64):
        by_hand = by_hand + expression[i] * HEAD.expression_basis[i, vertex]
    assert HEAD.vertices(identity, expression)[vertex] == pytest.approx(by_hand, abs=1e-5)


def test_leading_axes_broadcast_and_landmarks_are_vertices():
    random = np.random.default_rng(1)
    expressions = random.normal(size=(5, 64))
    identity = random.normal(size=80)
    vertices = HEAD.vertices(identity, expressions)
    assert vertices.shape == (5, len(HEAD.mean), 3)
    landmarks = HEAD.landmarks68(identity, expressions)
    assert landmarks == pytest.approx(vertices[:, HEAD.landmark_vertices], abs=1e-5)


def test_generators_and_coefficients_round_trip_exactly():
    g = np.random.default_rng(2).normal(size=(200, 64))
    back = HEAD.coefficients_to_generators(HEAD.generators_to_coefficients(g))
    assert np.abs(back - g).max() < 1e-9


def test_generator_basis_undoes_the_mixing():
    jaw = HEAD.generator_basis()[GENERATORS.index("jaw_open")]
    assert HEAD.mean + jaw == pytest.approx(moved(jaw_open=1.0), abs=1e-4)


def test_coefficients_are_entangled_with_falling_variance():
    mixing = HEAD.mixing
    deviation = np.sqrt(np.diag(mixing @ _generator_scatter() @ mixing.T))
    assert deviation[0] == pytest.approx(1.0)
    assert np.all(np.diff(deviation) <= 1e-9)
    assert deviation[63] < 0.05
    # a blink is spread over many coefficients, and the first ones hold lips and lids at once
    for name in ("jaw_open", "blink_left", "brow_inner_up"):
        column = np.abs(mixing[:, GENERATORS.index(name)])
        assert (column > 0.02 * column.max()).sum() > 15
    lips = np.abs(mixing[:20][:, list(HEAD.lip_generators)]).sum(1)
    eyes = np.abs(mixing[:20][:, list(HEAD.eye_generators)]).sum(1)
    assert (np.minimum(lips, eyes) > 0.02 * np.maximum(lips, eyes)).mean() > 0.8


def test_true_movements_stay_in_their_region():
    basis = HEAD.generator_basis()
    motion = np.linalg.norm(basis, axis=2)  # generators, vertices
    lip, brow = HEAD.regions["lip"], HEAD.regions["brow"]
    for name in ("blink_left", "blink_right", "gaze_yaw"):
        assert motion[GENERATORS.index(name)][lip].max() < 1e-4
    for name in ("jaw_open", "pucker", "wide"):
        assert motion[GENERATORS.index(name)][brow].max() < 1e-4
    assert motion[GENERATORS.index("blink_left")][HEAD.regions["eye"]].max() > 0.05


def test_landmarks_lie_in_ibug_order_on_the_mean_face():
    p = HEAD.landmarks68(np.zeros(80), STILL)
    x, y, z = p.T
    assert np.all(np.diff(x[:17]) > 0)  # jaw from the subject's right (left of the picture) to the left
    assert y[8] == min(y[:17])
    assert np.all(np.diff(x[17:27]) > 0)
    assert np.all(np.diff(y[27:31]) < 0)
    assert z[30] == max(z)  # tip of the nose
    assert np.all(np.diff(x[31:36]) > 0)
    assert x[36] < x[39] < 0 < x[42] < x[45]
    assert y[37] > y[41] and y[44] > y[46]
    assert x[48] < x[51] < x[54] and y[51] > y[62] and y[66] > y[57]
    mirrored = p[[16 - i for i in range(17)]] * (-1, 1, 1)
    assert p[:17] == pytest.approx(mirrored, abs=1e-5)


def test_lips_close_and_lids_meet():
    ids = HEAD.landmark_vertices

    def gap(vertices: np.ndarray, upper: int, lower: int) -> float:
        return float(vertices[ids[upper], 1] - vertices[ids[lower], 1])

    assert gap(moved(), 62, 66) == pytest.approx(0.0, abs=0.01)
    assert gap(moved(jaw_open=1.0), 62, 66) > 0.2
    assert gap(moved(jaw_open=0.3, close_lips=0.3), 62, 66) < 0.015
    assert gap(moved(), 37, 41) > 0.07
    assert gap(moved(blink_right=1.0), 37, 41) < 0.01
    wide, pucker = moved(wide=1.0), moved(pucker=1.0)
    assert wide[ids[54], 0] - wide[ids[48], 0] > 1.4 * (pucker[ids[54], 0] - pucker[ids[48], 0])


def test_mesh_is_symmetric_and_faces_outwards():
    mesh = head_mesh()
    assert mesh.vertices[mesh.mirror] * (-1, 1, 1) == pytest.approx(mesh.vertices, abs=1e-9)
    v, t = mesh.vertices, mesh.triangles
    folded = np.isin(mesh.ring[t], (10, 11, 12)).any(1)  # the inner rims of the lips turn away
    front = (mesh.part[t[:, 0]] == 0) & (v[t][:, :, 2].min(1) > 0.9) & ~folded
    normals = np.cross(v[t[:, 1]] - v[t[:, 0]], v[t[:, 2]] - v[t[:, 0]])[front]
    assert (normals[:, 2] > 0).mean() > 0.95
    assert t.min() == 0 and t.max() == len(v) - 1


def test_same_seed_same_head_and_another_seed_another():
    build_head.cache_clear()
    again = build_head()
    assert np.array_equal(again.expression_basis, HEAD.expression_basis)
    assert np.array_equal(again.identity_basis, HEAD.identity_basis)
    assert not np.array_equal(build_head(1).expression_basis, HEAD.expression_basis)


def test_face_weight_takes_the_face_and_leaves_the_skull():
    weight = face_weight(head_mesh())
    assert weight[HEAD.landmark_vertices[27:]].min() > 0.95
    assert weight[HEAD.regions["ears"]].max() == 0.0
    assert weight[HEAD.mean[:, 2] < -0.2].max() == 0.0


def test_a_model_without_known_movements_says_so():
    from dataclasses import replace

    learned = replace(HEAD, mixing=None)
    with pytest.raises(ValueError, match="not known"):
        learned.generators_to_coefficients(np.zeros(64))
    with pytest.raises(ValueError, match="expected 64"):
        HEAD.vertices(np.zeros(80), np.zeros(13))


def test_coefficients_pack_and_unpack():
    packed = np.random.default_rng(3).normal(size=(4, SIZE))
    parts = Coefficients.unpack(packed)
    assert parts.expression.shape == (4, 64) and parts.gamma.shape == (4, 27)
    assert np.array_equal(parts.pack(), packed)
    with pytest.raises(ValueError, match="257"):
        Coefficients.unpack(np.zeros(73))


def test_rotation_turns_the_way_it_says():
    assert rotation(np.zeros(3)) == pytest.approx(np.eye(3))
    nose = np.array([0.0, 0.0, 1.0])
    assert (nose @ rotation(np.array([0.3, 0, 0])).T)[1] < 0  # positive pitch: the face looks down
    assert (nose @ rotation(np.array([0, 0.3, 0])).T)[0] > 0  # positive yaw: to the subject's left
    up = np.array([0.0, 1.0, 0.0])
    assert (up @ rotation(np.array([0, 0, 0.3])).T)[0] < 0  # positive roll: the crown to the subject's right
    r = rotation(np.array([0.2, -0.4, 0.7]))
    assert r @ r.T == pytest.approx(np.eye(3), abs=1e-12)
