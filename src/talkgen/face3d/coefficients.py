"""The 257 coefficients of a frame, in the order that Deep3DFaceRecon and its heirs use.

id 80 · exp 64 · tex 80 · angle 3 (pitch, yaw, roll; radians) · gamma 27 (nine bands a colour) · trans 3.
Source: Deng et al. 2019, ``models/bfm.py`` ``split_coeff``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IDENTITY = slice(0, 80)
EXPRESSION = slice(80, 144)
TEXTURE = slice(144, 224)
ANGLE = slice(224, 227)
GAMMA = slice(227, 254)
TRANSLATION = slice(254, 257)
SIZE = 257


@dataclass(frozen=True)
class Coefficients:
    """The parts of the 257 numbers; every array may have leading axes, which must agree."""

    identity: NDArray[np.floating]
    expression: NDArray[np.floating]
    texture: NDArray[np.floating]
    angle: NDArray[np.floating]
    gamma: NDArray[np.floating]
    translation: NDArray[np.floating]

    def pack(self) -> NDArray[np.floating]:
        """All parts in one array ``(..., 257)``."""
        return np.concatenate(
            [self.identity, self.expression, self.texture, self.angle, self.gamma, self.translation], axis=-1
        )

    @classmethod
    def unpack(cls, packed: NDArray[np.floating]) -> Coefficients:
        """Views of the parts of ``(..., 257)``; raises ValueError for another width."""
        if packed.shape[-1] != SIZE:
            raise ValueError(f"expected {SIZE} coefficients, got {packed.shape[-1]}")
        return cls(
            *(packed[..., part] for part in (IDENTITY, EXPRESSION, TEXTURE, ANGLE, GAMMA, TRANSLATION))
        )


def rotation(angle: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rotation matrices ``(..., 3, 3)`` of angles ``(..., 3)`` (pitch, yaw, roll): R = Rz Ry Rx; apply as
    ``v @ R.T``."""
    pitch, yaw, roll = np.moveaxis(np.asarray(angle, dtype=np.float64), -1, 0)
    zero, one = np.zeros_like(pitch), np.ones_like(pitch)

    def matrix(*rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(rows, axis=-1).reshape(*pitch.shape, 3, 3)

    cx, sx, cy, sy, cz, sz = (
        np.cos(pitch),
        np.sin(pitch),
        np.cos(yaw),
        np.sin(yaw),
        np.cos(roll),
        np.sin(roll),
    )
    about_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return about_z @ about_y @ about_x
