"""A linear 3D morphable model: mean plus identity plus expression, and albedo; the interface of all such
models.

    vertices = mean + identity · B_id + expression · B_exp        albedo = mean_albedo + texture · B_tex

(Blanz & Vetter 1999; Paysan et al. 2009 for the split into identity and expression.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class MorphableModel:
    """Bases and topology of a head, and what can be asked of them.

    Attributes:
        mean: (n, 3) float32 vertices of the mean head; decimetres, y up, z towards the camera.
        identity_basis: (k_id, n, 3) float32, scaled so that coefficients are of unit variance.
        expression_basis: (k_exp, n, 3) float32.
        mean_albedo: (n, 3) float32 in [0, 1].
        albedo_basis: (k_tex, n, 3) float32, for coefficients of unit variance.
        triangles: (m, 3) int32, counter-clockwise seen from outside.
        landmark_vertices: (68,) int64, the vertices of the iBUG landmarks.
        regions: named masks (n,) bool, at least ``face``, ``lip``, ``eye``, ``brow``, ``nose``, ``jaw``.
        expression_deviation: (k_exp,) float64, how far each expression coefficient usually goes; ones unless
            the model says more.
        generator_names: names of the true movements behind the expression coefficients (empty when unknown).
        mixing: (k_exp, generators) float64 W with ``coefficients = W @ generators``; None when unknown.
        lip_generators, eye_generators, brow_generators: indices into ``generator_names``.
    """

    mean: Float32
    identity_basis: Float32
    expression_basis: Float32
    mean_albedo: Float32
    albedo_basis: Float32
    triangles: NDArray[np.int32]
    landmark_vertices: NDArray[np.int64]
    regions: Mapping[str, NDArray[np.bool_]]
    expression_deviation: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    generator_names: tuple[str, ...] = ()
    mixing: NDArray[np.float64] | None = None
    lip_generators: tuple[int, ...] = ()
    eye_generators: tuple[int, ...] = ()
    brow_generators: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.expression_deviation):
            object.__setattr__(self, "expression_deviation", np.ones(len(self.expression_basis)))

    def resized(self, identity: int = 80, expression: int = 64, texture: int = 80) -> MorphableModel:
        """The model with so many coefficients, as the 257 numbers hold them: the last ones are left out, or
        coefficients that move nothing are added; of the movements behind them nothing is known then. A model
        of these sizes is given back as it is.
        """
        sizes = len(self.identity_basis), len(self.expression_basis), len(self.albedo_basis)
        if sizes == (identity, expression, texture):
            return self
        deviation = np.ones(expression)
        deviation[: sizes[1]] = self.expression_deviation[:expression]
        return replace(
            self,
            identity_basis=_fitted(self.identity_basis, identity),
            expression_basis=_fitted(self.expression_basis, expression),
            albedo_basis=_fitted(self.albedo_basis, texture),
            expression_deviation=deviation,
            generator_names=(),
            mixing=None,
            lip_generators=(),
            eye_generators=(),
            brow_generators=(),
        )

    def sha256(self) -> str:
        """Digest of what coefficients mean: mean, bases, deviations and landmarks."""
        digest = hashlib.sha256()
        for array in (
            self.mean,
            self.identity_basis,
            self.expression_basis,
            self.expression_deviation,
            self.landmark_vertices,
        ):
            # rounded, so that the last bits of a computed model, which differ between machines, do not count
            digest.update(np.round(np.asarray(array, np.float64), 4).astype(np.float32).tobytes())
        return digest.hexdigest()

    def vertices(self, identity: NDArray[np.floating], expression: NDArray[np.floating]) -> Float32:
        """Vertices ``(..., n, 3)`` for coefficients ``(..., 80)`` and ``(..., 64)`` (leading axes
        broadcast)."""
        return (
            self.mean + _combine(identity, self.identity_basis) + _combine(expression, self.expression_basis)
        )

    def albedo(self, texture: NDArray[np.floating]) -> Float32:
        """Albedo ``(..., n, 3)`` in [0.01, 1] for coefficients ``(..., 80)``."""
        return np.clip(self.mean_albedo + _combine(texture, self.albedo_basis), 0.01, 1.0)

    def landmarks68(self, identity: NDArray[np.floating], expression: NDArray[np.floating]) -> Float32:
        """The 68 landmarks ``(..., 68, 3)`` without computing the other vertices."""
        ids = self.landmark_vertices
        return (
            self.mean[ids]
            + _combine(identity, self.identity_basis[:, ids])
            + _combine(expression, self.expression_basis[:, ids])
        )

    def generators_to_coefficients(self, generators: NDArray[np.floating]) -> NDArray[np.float64]:
        """Expression coefficients ``(..., 64)`` of true movements ``(..., generators)``: c = W g."""
        return np.asarray(generators, dtype=np.float64) @ self._mixing().T

    def coefficients_to_generators(self, coefficients: NDArray[np.floating]) -> NDArray[np.float64]:
        """True movements behind expression coefficients: g = W⁻¹ c, exact."""
        flat = np.asarray(coefficients, dtype=np.float64)
        solved = np.linalg.solve(self._mixing(), flat.reshape(-1, flat.shape[-1]).T)
        return np.asarray(solved.T.reshape(flat.shape), dtype=np.float64)

    def generator_basis(self) -> Float32:
        """What each generator does to the vertices, ``(generators, n, 3)``: Wᵀ B_exp."""
        return np.tensordot(self._mixing().T.astype(np.float32), self.expression_basis, axes=1)

    def _mixing(self) -> NDArray[np.float64]:
        if self.mixing is None:
            raise ValueError(
                "this model was learned from scans: the movements behind its coefficients are not known"
            )
        return self.mixing


def _fitted(basis: Float32, size: int) -> Float32:
    """The first vectors of a basis, or the basis and zeros."""
    added = np.zeros((max(size - len(basis), 0), *basis.shape[1:]), np.float32)
    return np.concatenate([basis[:size], added])


def _combine(coefficients: NDArray[np.floating], basis: Float32) -> Float32:
    """``coefficients (..., k) · basis (k, n, 3)`` as one matrix product, (..., n, 3)."""
    weights = np.asarray(coefficients, dtype=np.float32)
    if weights.shape[-1] != len(basis):
        raise ValueError(f"expected {len(basis)} coefficients, got {weights.shape[-1]}")
    return (weights @ basis.reshape(len(basis), -1)).reshape(*weights.shape[:-1], *basis.shape[1:])
