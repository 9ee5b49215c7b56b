"""Spherical-harmonic light in the layout of the 27 gamma coefficients (Deep3DFaceRecon, ``bfm.py``).

Nine bands a colour channel; the picture of a white sphere is ``Y(n) @ (gamma.reshape(3, 9) + [0.8, 0, …])ᵀ``.
Ramamoorthi & Hanrahan 2001: nine numbers reproduce diffuse light to about one per cent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_A = (np.pi, 2 * np.pi / np.sqrt(3.0), 2 * np.pi / np.sqrt(8.0))
_C = (1 / np.sqrt(4 * np.pi), np.sqrt(3.0) / np.sqrt(4 * np.pi), 3 * np.sqrt(5.0) / np.sqrt(12 * np.pi))
AMBIENT = 0.8
"""Added to the first band of every channel, so that gamma = 0 is an even white light."""


def harmonics(normals: NDArray[np.floating]) -> NDArray[np.float64]:
    """The nine basis functions at unit normals ``(..., 3)``, as ``(..., 9)``."""
    x, y, z = np.moveaxis(np.asarray(normals, dtype=np.float64), -1, 0)
    return np.stack(
        [
            np.full_like(x, _A[0] * _C[0]),
            -_A[1] * _C[1] * y,
            _A[1] * _C[1] * z,
            -_A[1] * _C[1] * x,
            _A[2] * _C[2] * x * y,
            -_A[2] * _C[2] * y * z,
            0.5 * _A[2] * _C[2] / np.sqrt(3.0) * (3 * z * z - 1),
            -_A[2] * _C[2] * x * z,
            0.5 * _A[2] * _C[2] * (x * x - y * y),
        ],
        axis=-1,
    )


def polynomial(gamma: NDArray[np.floating]) -> NDArray[np.float32]:
    """Light as polynomials of the normal, ``(3, 9)`` over 1, x, y, z, xy, yz, zz, xz, xx - yy (what the
    shader evaluates)."""
    bands = np.asarray(gamma, dtype=np.float64).reshape(3, 9).copy()
    bands[:, 0] += AMBIENT
    second = _A[2] * _C[2]
    zz = 0.5 * second / np.sqrt(3.0)
    out = np.stack(
        [
            bands[:, 0] * _A[0] * _C[0] - bands[:, 6] * zz,
            -bands[:, 3] * _A[1] * _C[1],
            -bands[:, 1] * _A[1] * _C[1],
            bands[:, 2] * _A[1] * _C[1],
            bands[:, 4] * second,
            -bands[:, 5] * second,
            3 * bands[:, 6] * zz,
            -bands[:, 7] * second,
            0.5 * bands[:, 8] * second,
        ],
        axis=1,
    )
    return out.astype(np.float32)


def gamma_of_lights(
    directions: NDArray[np.floating], colours: NDArray[np.floating], ambient: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Gamma (27,) of directional lights ``(n, 3)`` with colours ``(n, 3)`` over an ambient colour ``(3,)``.

    A light of colour 1 adds at most about 1 to a surface that faces it (clamped cosine, projected to nine
    bands).
    """
    grid = _sphere()
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    light = np.maximum(grid @ unit.T, 0.0) @ colours + ambient  # what a white sphere shows, in three channels
    bands, *_ = np.linalg.lstsq(harmonics(grid), light, rcond=None)
    bands[0] -= AMBIENT
    return bands.T.ravel()


def key_direction(gamma: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unit direction towards the strongest light, from the linear bands; straight ahead for an even light."""
    bands = np.asarray(gamma, dtype=np.float64).reshape(3, 9).mean(0)
    direction = np.array([-bands[3], -bands[1], bands[2] + 1e-3])
    return (direction / np.linalg.norm(direction)).astype(np.float32)


def _sphere(points: int = 400) -> NDArray[np.float64]:
    """An even set of unit vectors (Fibonacci lattice)."""
    i = np.arange(points) + 0.5
    polar, turn = np.arccos(1 - 2 * i / points), np.pi * (1 + 5**0.5) * i
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
