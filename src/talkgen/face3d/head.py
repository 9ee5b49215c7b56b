"""The built-in head: a complete morphable model, made by code and a seed; no data file and no scan of a
person.

Its 64 expression coefficients are entangled on purpose. They are principal components of a performance,
mixed further by a dense rotation, with falling variances, as a reader of BFM coefficients meets them; the
true lip, eye and brow movements are known all the same (`MorphableModel.coefficients_to_generators`), so
disentanglement can be scored.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from talkgen.face3d import head_shape as shape
from talkgen.face3d.head_mesh import HeadMesh, head_mesh
from talkgen.face3d.head_motion import (
    BROW_GENERATORS,
    EYE_GENERATORS,
    GENERATORS,
    LIP_GENERATORS,
    generator_fields,
)
from talkgen.face3d.head_variation import albedo_basis, mean_albedo, shape_basis
from talkgen.face3d.morphable_model import MorphableModel

HEAD_SEED = 20240508


def _regions(mesh: HeadMesh) -> dict[str, NDArray[np.bool_]]:
    """Named parts of the surface."""
    x, y = mesh.plane.T
    skin = mesh.of("skin")
    front = skin & (mesh.vertices[:, 2] > 0.35) & (y > -1.0) & (y < 1.0)
    side = np.abs(x)
    return {
        "skin": mesh.of("skin", "ears"),
        "face": (front | mesh.of("eyes", "teeth_upper", "teeth_lower", "tongue", "mouth_bag")),
        "lip": skin & (mesh.ring >= 12) & (mesh.ring <= 15),
        "mouth": (front & (y < -0.30) & (y > -0.68) & (side < 0.36))
        | mesh.of("teeth_upper", "teeth_lower", "tongue", "mouth_bag"),
        "eye": (skin & (mesh.ring >= 0) & (mesh.ring < 5)) | mesh.of("eyes"),
        "brow": front & (y > 0.49) & (y < 0.68) & (side > 0.08) & (side < 0.55),
        "nose": front & (y > -0.32) & (y < 0.40) & (side < 0.17),
        "jaw": front & (y < -0.62),
        "ears": mesh.of("ears"),
        "eyeballs": mesh.of("eyes"),
        "teeth": mesh.of("teeth_upper", "teeth_lower"),
        "tongue": mesh.of("tongue"),
    }


def _generator_scatter() -> NDArray[np.float64]:
    """Second moments of the generators in a typical performance, (64, 64): sizes, and what moves together."""
    sizes = dict.fromkeys(GENERATORS, 0.35)
    sizes |= dict.fromkeys(EYE_GENERATORS, 0.25) | dict.fromkeys(BROW_GENERATORS, 0.30)
    sizes |= {"jaw_open": 0.28, "tongue_out": 0.15, "jaw_side": 0.15, "blink_left": 0.32, "blink_right": 0.32}
    together = (
        ("blink_left", "blink_right", 0.95),
        ("wide_left", "wide_right", 0.9),
        ("squint_left", "squint_right", 0.9),
        ("corner_up_left", "corner_up_right", 0.85),
        ("brow_outer_up_left", "brow_outer_up_right", 0.7),
        ("brow_down_left", "brow_down_right", 0.8),
        ("jaw_open", "lower_depress", 0.4),
        ("pucker", "funnel", 0.5),
        ("brow_inner_up", "wide_left", 0.3),
        ("cheek_raise", "corner_up_left", 0.5),
    )
    correlation = np.eye(len(GENERATORS))
    for a, b, value in together:
        i, j = GENERATORS.index(a), GENERATORS.index(b)
        correlation[i, j] = correlation[j, i] = value
    values, vectors = np.linalg.eigh(correlation)
    correlation = (vectors * np.maximum(values, 0.02)) @ vectors.T
    scale = np.array([sizes[name] for name in GENERATORS])
    return correlation * np.outer(scale, scale)


def _mixing(fields: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """W (64, 64): generators to entangled coefficients of falling variance.

    Principal components of ``scatter`` seen through the displacement fields, then a rotation whose angles
    are the larger the closer two components are, so that every coefficient holds lips, lids and brows.
    """
    count = len(fields)
    flat = fields.reshape(count, -1)
    gram = flat @ flat.T
    scatter = _generator_scatter()
    root = np.linalg.cholesky(scatter)
    values, vectors = np.linalg.eigh(root.T @ gram @ root)
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
    # U = D L v / sqrt(λ) is an orthonormal basis of the displacements, so c = Uᵀ D g
    to_components = (vectors * signs / np.sqrt(values)).T @ root.T @ gram
    random = np.random.default_rng(seed)
    near = np.exp(-np.abs(np.subtract.outer(np.arange(count), np.arange(count))) / 10.0)
    skew = random.normal(size=(count, count)) * near * 0.30
    mixed = expm(skew - skew.T) @ to_components
    variance = np.einsum("ij,jk,ik->i", mixed, scatter, mixed)
    order = np.argsort(variance)[::-1]
    return mixed[order] / np.sqrt(variance[order[0]])


@lru_cache(maxsize=2)
def build_head(seed: int = HEAD_SEED) -> MorphableModel:
    """Make the head: same seed, same numbers. Takes about half a second; kept for the life of the process."""
    mesh = head_mesh()
    fields = generator_fields(mesh, seed)
    mixing = _mixing(fields, seed + 1)
    expression = np.tensordot(np.linalg.inv(mixing).T, fields, axes=1)
    names = list(GENERATORS)
    return MorphableModel(
        mean=mesh.vertices.astype(np.float32),
        identity_basis=shape_basis(mesh, seed + 2).astype(np.float32),
        expression_basis=expression.astype(np.float32),
        mean_albedo=mean_albedo(mesh).astype(np.float32),
        albedo_basis=albedo_basis(mesh, seed + 3).astype(np.float32),
        triangles=mesh.triangles.astype(np.int32),
        landmark_vertices=mesh.landmarks,
        regions=_regions(mesh),
        expression_deviation=np.sqrt(np.einsum("ij,jk,ik->i", mixing, _generator_scatter(), mixing)),
        generator_names=GENERATORS,
        mixing=mixing,
        lip_generators=tuple(names.index(name) for name in LIP_GENERATORS),
        eye_generators=tuple(names.index(name) for name in EYE_GENERATORS),
        brow_generators=tuple(names.index(name) for name in BROW_GENERATORS),
    )


def face_weight(mesh: HeadMesh) -> NDArray[np.float64]:
    """How much of each vertex belongs to the face, (n,) in [0, 1]: what a perfect face swap exchanges."""
    x, y = mesh.plane.T
    weight = shape.smoothstep(mesh.vertices[:, 2], 0.10, 0.45) * shape.smoothstep(y, 1.05, 0.80)
    weight *= shape.smoothstep(y, -1.15, -0.98)
    return np.where(mesh.of("skin"), weight, np.where(mesh.of("ears"), 0.0, 1.0)) * np.ones_like(x)
