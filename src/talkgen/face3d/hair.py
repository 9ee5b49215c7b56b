"""Hair as a sheet that leaves the crown and falls along the skull, with frayed ends; several cuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from talkgen.face3d import head_shape as shape

Array = NDArray[np.float64]

ROWS, COLUMNS = 26, 61
FOLDS = 4
"""The texture is laid around the head this many times, each second time mirrored."""


@dataclass(frozen=True)
class Haircut:
    """A cut.

    Args:
        ends: where the hair ends: (degrees from the middle of the forehead, height) pairs, 0 to 180 degrees.
        thickness: how far it stands off the skull, decimetres.
        top: extra height on the crown.
        hangs: below the ears it hangs freely instead of following the nape.
        parting: the side (−1 right, 1 left, 0 none) towards which the fringe is lower, by ``fringe``
            decimetres.
        fringe: see ``parting``.
        wave: sideways waves of the strands, decimetres.
    """

    ends: tuple[tuple[float, float], ...]
    thickness: float
    top: float = 0.0
    hangs: bool = False
    parting: int = 0
    fringe: float = 0.0
    wave: float = 0.0


HAIRCUTS: dict[str, Haircut] = {
    "crop": Haircut(
        (
            (0, 1.17),
            (25, 1.15),
            (45, 1.01),
            (58, 0.70),
            (70, 0.42),
            (80, 0.14),
            (92, 0.30),
            (110, -0.10),
            (140, -0.46),
            (180, -0.52),
        ),
        0.050,
        0.02,
    ),
    "short": Haircut(
        (
            (0, 1.15),
            (25, 1.15),
            (45, 1.00),
            (58, 0.68),
            (70, 0.40),
            (80, 0.10),
            (92, 0.28),
            (110, -0.15),
            (140, -0.50),
            (180, -0.58),
        ),
        0.095,
        0.07,
        parting=1,
        fringe=0.06,
    ),
    "quiff": Haircut(
        (
            (0, 1.19),
            (25, 1.16),
            (45, 1.02),
            (58, 0.70),
            (70, 0.42),
            (80, 0.12),
            (92, 0.32),
            (110, -0.08),
            (140, -0.46),
            (180, -0.52),
        ),
        0.080,
        0.15,
        parting=-1,
        fringe=0.04,
    ),
    "fringe": Haircut(
        (
            (0, 0.76),
            (25, 0.75),
            (42, 0.70),
            (58, 0.50),
            (72, 0.20),
            (84, -0.20),
            (100, -0.50),
            (140, -0.70),
            (180, -0.72),
        ),
        0.115,
        0.06,
        hangs=True,
    ),
    "bob": Haircut(
        (
            (0, 1.12),
            (20, 1.12),
            (40, 0.99),
            (56, 0.60),
            (68, 0.10),
            (80, -0.62),
            (95, -0.78),
            (140, -0.80),
            (180, -0.80),
        ),
        0.130,
        0.06,
        hangs=True,
        parting=1,
        fringe=0.13,
    ),
    "long": Haircut(
        (
            (0, 1.14),
            (20, 1.12),
            (40, 0.99),
            (56, 0.62),
            (66, 0.15),
            (78, -0.95),
            (92, -1.55),
            (140, -1.70),
            (180, -1.75),
        ),
        0.135,
        0.06,
        hangs=True,
        parting=-1,
        fringe=0.10,
        wave=0.03,
    ),
    "wavy": Haircut(
        (
            (0, 1.12),
            (20, 1.12),
            (40, 0.98),
            (56, 0.55),
            (66, 0.05),
            (78, -0.75),
            (92, -1.20),
            (140, -1.30),
            (180, -1.30),
        ),
        0.165,
        0.09,
        hangs=True,
        parting=1,
        fringe=0.12,
        wave=0.06,
    ),
    "tied": Haircut(
        (
            (0, 1.20),
            (25, 1.17),
            (45, 1.00),
            (58, 0.66),
            (70, 0.38),
            (82, 0.16),
            (95, 0.18),
            (110, -0.05),
            (140, -0.30),
            (180, -0.42),
        ),
        0.060,
        0.03,
        parting=1,
        fringe=0.05,
    ),
    "afro": Haircut(
        (
            (0, 1.02),
            (25, 1.00),
            (45, 0.88),
            (58, 0.62),
            (70, 0.34),
            (82, 0.10),
            (95, 0.02),
            (110, -0.20),
            (140, -0.40),
            (180, -0.50),
        ),
        0.270,
        0.14,
    ),
    "buzz": Haircut(
        (
            (0, 1.11),
            (25, 1.09),
            (45, 0.98),
            (58, 0.71),
            (70, 0.44),
            (80, 0.18),
            (92, 0.32),
            (110, -0.08),
            (140, -0.44),
            (180, -0.50),
        ),
        0.022,
        0.0,
    ),
}


def hairline(cut: Haircut, angle: Array) -> Array:
    """Height at which the hair ends, at angles around the head (radians, 0 = front, positive = left)."""
    degrees, heights = np.array(cut.ends).T
    ends = PchipInterpolator(degrees, heights)(np.clip(np.abs(np.degrees(angle)), 0, 180))
    lean = np.exp(-(((np.degrees(angle) - 22 * cut.parting) / 20) ** 2)) - 0.5 * np.exp(
        -(((np.degrees(angle) + 16 * cut.parting) / 12) ** 2)
    )
    return ends - cut.fringe * (lean if cut.parting else 0.0)


def hair_mesh(cut: Haircut) -> dict[str, NDArray]:
    """Vertices, triangles, place in the texture, coverage and occlusion of a cut on the mean skull."""
    angle = np.linspace(-np.pi, np.pi, COLUMNS)[None, :] * np.ones((ROWS, 1))
    share = np.linspace(0, 1, ROWS)[:, None] ** 0.9 * np.ones((1, COLUMNS))
    end = hairline(cut, angle)
    height = shape.CROWN_HEIGHT - 0.02 + (end - shape.CROWN_HEIGHT + 0.02) * share
    if cut.hangs:
        front = shape.smoothstep(np.abs(np.degrees(angle)), 40.0, 65.0)
        guide = np.where(height < 0.40, 0.40 - 0.15 * np.tanh((0.40 - height) / 0.5), height)
        guide = height * (1 - front) + guide * front
    else:
        guide = height
    points = shape.skull(angle, np.maximum(guide, -1.7))
    level = shape.skull(np.zeros_like(height), np.maximum(height, -1.7))[..., 1]
    free = (height < guide - 1e-6) if cut.hangs else np.zeros_like(height, dtype=bool)
    drop = np.where(free, height - guide, 0.0)
    points[..., 1] = np.where(free, shape.skull(np.zeros_like(guide), guide)[..., 1] + drop, level)
    outward = points * (1.25, 1.0, 1.0) - (0.0, 0.45, -0.05)
    outward[..., 1] *= shape.smoothstep(points[..., 1], 0.4, 1.2)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-9
    # the sheet rises steeply from its ends, and thins at the very front
    rise = np.sqrt(np.clip((1 - share) / 0.16, 0, 1))
    if cut.hangs:
        rise = np.where(free, 1.0 - 0.35 * share**4, rise)
    thick = cut.thickness * rise + 0.012
    ripple = 1 + 0.10 * np.sin(angle * 13 + 3 * share) * share + 0.06 * np.sin(angle * 29 - 5 * share)
    points += outward * (thick * ripple)[..., None]
    points[..., 1] += cut.top * shape.smoothstep(points[..., 1], 0.9, 1.4) * (1 + 0.6 * np.cos(angle))
    points[..., 0] += (
        cut.wave
        * np.sin(6.0 * points[..., 1] + 2 * np.sin(angle * 3))
        * shape.smoothstep(points[..., 1], 0.4, -0.5)
    )
    r, c = np.meshgrid(np.arange(ROWS - 1), np.arange(COLUMNS - 1), indexing="ij")
    a = (r * COLUMNS + c).ravel()
    triangles = np.concatenate(
        [np.stack([a, a + COLUMNS, a + 1], 1), np.stack([a + 1, a + COLUMNS, a + COLUMNS + 1], 1)]
    )
    fray = 0.10 if not cut.hangs else 0.08
    cover = np.clip(1.6 * (1 - share) / fray * 0.5 + 0.12, 0.0, 1.5)
    shade = 0.62 + 0.38 * shape.smoothstep(share, 1.0, 0.75)
    shade = np.where(
        free, shade * (0.80 + 0.20 * shape.smoothstep(np.abs(np.degrees(angle)), 60.0, 95.0)), shade
    )
    turns = (angle / np.pi * 0.5 + 0.5) * FOLDS
    uv = np.stack([np.abs(turns - 2 * np.round(turns / 2)), share], -1)
    return {
        "vertices": points.reshape(-1, 3),
        "triangles": triangles,
        "uv": uv.reshape(-1, 2),
        "cutout": cover.ravel(),
        "occlusion": shade.ravel(),
        "angle": angle.ravel(),
    }


def strands(size: int, random: np.random.Generator, curl: float = 0.0) -> Array:
    """Texture of strands, (size, size) around 1: noise drawn out along the hair; ``curl`` makes it woolly."""
    noise = random.normal(size=(size, size))
    across = np.abs(np.fft.fftfreq(size))[None, :]
    along = np.abs(np.fft.fftfreq(size))[:, None]
    stretch = 60.0 * (1 - curl) + 3.0 * curl
    scale = size / 256
    band = np.exp(-2 * (along * scale * stretch) ** 2) * (
        np.exp(-((across * scale / 0.13) ** 2)) - 0.7 * np.exp(-((across * scale / 0.02) ** 2))
    )
    grain = np.fft.ifft2(np.fft.fft2(noise) * band).real
    return 1 + 0.24 * grain / grain.std()
