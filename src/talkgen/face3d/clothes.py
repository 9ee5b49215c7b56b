"""Neck, shoulders and what they wear: a bust and a painted front."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]

STYLES = ("tee", "sweater", "suit", "shirt", "hoodie", "striped")
LEFT, TOP, SPAN = -2.1, -1.1, 4.2
"""The front is painted on the square x in [-2.1, 2.1], y in [-5.3, -1.1]; its upper part is what is seen."""

# y, half width, front z, back z
_BUST = np.array(
    [
        (-1.20, 0.545, 0.400, -0.57),
        (-1.29, 0.590, 0.440, -0.60),
        (-1.38, 0.690, 0.480, -0.63),
        (-1.47, 0.900, 0.510, -0.64),
        (-1.56, 1.190, 0.530, -0.64),
        (-1.66, 1.460, 0.550, -0.62),
        (-1.79, 1.680, 0.590, -0.60),
        (-2.05, 1.820, 0.660, -0.60),
        (-2.60, 1.900, 0.740, -0.62),
        (-3.60, 1.900, 0.780, -0.64),
    ]
)


def bust_mesh(collar: float = 0.0, breadth: float = 1.0) -> dict[str, NDArray]:
    """Vertices, triangles, uv in [0, 1] and occlusion; ``collar`` lifts the neckline, ``breadth``
    scales the shoulders."""
    rows, columns = 22, 48
    s = np.linspace(0, len(_BUST) - 1, rows)
    y, w, front, back = PchipInterpolator(np.arange(len(_BUST)), _BUST)(s).T
    w = w * (1 + (breadth - 1) * np.clip((s - 2) / 3, 0, 1))
    turn = np.linspace(-np.pi, np.pi, columns)
    x = w[:, None] * np.sin(turn)
    depth = np.where(np.cos(turn)[None] > 0, front[:, None], -back[:, None])
    z = -0.08 + (depth + 0.08 * np.sign(np.cos(turn))) * np.cos(turn)
    # shoulders slope from the neck; the neckline dips in front
    height = (
        y[:, None]
        - 0.15 * np.maximum(np.cos(turn), 0) ** 2 * np.clip(1 - s / 3, 0, 1)[:, None]
        + collar * np.clip(1 - s, 0, 1)[:, None]
    )
    points = np.stack([x, height * np.ones_like(x), z], -1)
    lift = (0.0, 0.075, 0.0)
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (r * columns + c).ravel()
    triangles = np.concatenate(
        [np.stack([a, a + columns, a + 1], 1), np.stack([a + 1, a + columns, a + columns + 1], 1)]
    )
    uv = np.stack([(x - LEFT) / SPAN, (TOP - points[..., 1]) / SPAN], -1)
    shade = (0.62 + 0.38 * np.clip(s / 3.5, 0, 1))[:, None] * np.ones_like(x)
    return {
        "vertices": (points + lift).reshape(-1, 3),
        "triangles": triangles,
        "uv": np.clip(uv, 0, 1).reshape(-1, 2),
        "occlusion": shade.ravel(),
    }


def paint(style: str, size: int, colour: Array, second: Array, random: np.random.Generator) -> Array:
    """The painted front, (size, size, 3) albedo in [0, 1]; ``colour`` is the garment, ``second`` shirt, tie
    or stripes."""
    picture = np.ones((size, size, 3)) * colour
    pixels = size / SPAN

    def at(*points: tuple[float, float]) -> NDArray[np.int32]:
        return np.array(
            [[round((x - LEFT) * pixels * 8), round((TOP - y) * pixels * 8)] for x, y in points],
            dtype=np.int32,
        )

    def fill(shade: Array, *points: tuple[float, float]) -> None:
        cv2.fillPoly(picture, [at(*points)], tuple(float(v) for v in shade), lineType=cv2.LINE_AA, shift=3)

    def line(shade: Array, width: float, *points: tuple[float, float]) -> None:
        cv2.polylines(
            picture,
            [at(*points)],
            False,
            tuple(float(v) for v in shade),
            max(1, round(width * pixels)),
            cv2.LINE_AA,
            3,
        )

    if style == "suit":
        white = np.array((0.86, 0.87, 0.88))
        fill(white, (-0.42, -1.10), (0.42, -1.10), (0.20, -2.10), (0.0, -2.90), (-0.20, -2.10))
        fill(second, (-0.09, -1.36), (0.09, -1.36), (0.14, -2.70), (-0.14, -2.70))
        fill(second * 0.8, (-0.10, -1.34), (0.10, -1.34), (0.06, -1.52), (-0.06, -1.52))
        for sign in (-1, 1):
            fill(white * 0.93, (sign * 0.10, -1.32), (sign * 0.55, -1.10), (sign * 0.42, -1.52))
            fill(
                colour * 0.80,
                (sign * 0.46, -1.15),
                (sign * 0.72, -1.65),
                (sign * 0.50, -1.80),
                (sign * 0.10, -2.90),
                (sign * 0.30, -1.80),
            )
            line(
                colour * 0.55,
                0.02,
                (sign * 0.46, -1.15),
                (sign * 0.72, -1.65),
                (sign * 0.50, -1.80),
                (sign * 0.12, -2.90),
            )
    elif style == "shirt":
        line(colour * 0.80, 0.03, (0.0, -1.30), (0.0, -3.10))
        for y in (-1.85, -2.25, -2.55):
            cv2.circle(
                picture,
                tuple(at((0.05, y))[0]),
                round(0.025 * pixels * 8),
                tuple(float(v) for v in second),
                -1,
                cv2.LINE_AA,
                3,
            )
        for sign in (-1, 1):
            fill(
                np.minimum(colour * 1.08, 1),
                (sign * 0.02, -1.37),
                (sign * 0.60, -1.10),
                (sign * 0.62, -1.32),
                (sign * 0.34, -1.64),
            )
            line(colour * 0.66, 0.025, (sign * 0.02, -1.37), (sign * 0.34, -1.64), (sign * 0.62, -1.32))
    elif style == "striped":
        for y in np.arange(-1.2, -3.6, -0.22):
            fill(second, (-2.1, y), (2.1, y), (2.1, y - 0.10), (-2.1, y - 0.10))
    elif style == "hoodie":
        for sign in (-1, 1):
            line(second, 0.035, (sign * 0.17, -1.40), (sign * 0.20, -2.10))
            line(colour * 0.72, 0.05, (sign * 0.05, -1.40), (sign * 0.60, -1.12))
    elif style == "sweater":
        rib = 1 + 0.08 * np.sin(np.arange(size) / size * 2 * np.pi * 60)
        picture *= rib[None, :, None]
    if style in ("tee", "striped", "sweater"):
        curve = [(0.62 * np.sin(t), -1.20 - 0.19 * np.cos(t)) for t in np.linspace(-1.4, 1.4, 20)]
        line(colour * 0.75, 0.05, *curve)
    weave = random.normal(size=(size, size, 1)) * 0.025
    folds = cv2.GaussianBlur(random.normal(size=(size, size)), (0, 0), size / 28)
    return np.clip(picture * (1 + weave + 0.09 * (folds / folds.std())[..., None]), 0, 1)
