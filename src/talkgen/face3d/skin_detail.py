"""What is too fine for vertices: brows hair by hair, pores, freckles, stubble, beard, lines, nostrils."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen.face3d import head_shape as shape
from talkgen.face3d.head_mesh import PLANE_SCALE, HeadMesh

Array = NDArray[np.float64]

LOW, SPAN = -1.25, 2.5
"""The texture covers abscissae and heights of the skin's plane in [-1.25, 1.25]."""


@dataclass(frozen=True)
class SkinDetail:
    """Fine traits of a person.

    Args:
        seed: places of hairs, freckles and pores.
        brow: darkness of the brows in [0, 1]; brow_thickness: relative; brow_tint: colour relative to skin.
        freckles, stubble, beard, lines, makeup: amounts in [0, 1].
    """

    seed: int
    brow: float = 0.8
    brow_thickness: float = 1.0
    brow_tint: tuple[float, float, float] = (0.30, 0.28, 0.28)
    freckles: float = 0.0
    stubble: float = 0.0
    beard: float = 0.0
    lines: float = 0.2
    makeup: float = 0.0


def texture_place(mesh: HeadMesh) -> Array:
    """Place of each vertex in the texture, (n, 2) in [0, 1]; all but skin lie on the blank corner."""
    u = (mesh.angle * PLANE_SCALE - LOW) / SPAN
    v = (-LOW - mesh.plane[:, 1]) / SPAN
    place = np.clip(np.stack([u, v], 1), 0.0, 1.0)
    return np.where(mesh.of("skin")[:, None], place, 0.0)


@lru_cache(maxsize=4)
def paint_detail(detail: SkinDetail, size: int) -> Array:
    """The multiplier of the skin's albedo, (size, size, 3) around 1; kept, so do not write into it."""
    random = np.random.default_rng(detail.seed)
    side = 2 * size
    axis = LOW + (np.arange(side) + 0.5) * SPAN / side
    x, y = np.meshgrid(axis, -axis)
    pixels = side / SPAN

    def at(px: float, py: float) -> tuple[int, int]:
        return round((px - LOW) * pixels * 8), round((-LOW - py) * pixels * 8)

    def soft(sigma: float) -> Array:
        """Noise of unit variance, smooth over ``sigma`` decimetres; drawn coarsely, then enlarged."""
        coarse = min(side, round(side * 2.0 / max(sigma * pixels, 2.0)))
        field = cv2.GaussianBlur(random.normal(size=(coarse, coarse)), (0, 0), sigma * pixels * coarse / side)
        if coarse < side:
            field = cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)
        return field / field.std()

    out = np.ones((side, side, 3))
    out *= (1 + 0.020 * soft(0.012) + 0.018 * soft(0.04))[..., None] * (
        1 + 0.012 * soft(0.08)[..., None] * np.array((0.2, 1.0, 1.0))
    )

    # brows: an arch of short strokes
    hairs = np.zeros((side, side), np.float32)
    ramp = random.normal(size=2) * 0.008
    for sign in (-1.0, 1.0):
        for _ in range(int(230 * detail.brow_thickness)):
            t = random.beta(1.15, 1.25)
            px = 0.115 + 0.41 * t
            arch = 0.545 + 0.055 * np.sin(np.pi * np.clip(t * 0.92 + 0.05, 0, 1)) - 0.035 * t**3 + ramp[0]
            width = 0.032 * detail.brow_thickness * (1.0 - 0.72 * t**1.5)
            py = arch + random.uniform(-1, 1) * width
            lean = np.radians(72 - 62 * t + random.normal() * 10)
            length = 0.050 * random.uniform(0.7, 1.2)
            end = at(sign * (px + length * np.cos(lean)), py + length * np.sin(lean) * (0.8 - t))
            cv2.line(hairs, at(sign * px, py), end, 1.0, max(1, round(0.008 * pixels)), cv2.LINE_AA, 3)
    hairs = cv2.GaussianBlur(hairs, (0, 0), 0.006 * pixels) * 0.95 + 0.3 * cv2.GaussianBlur(
        hairs, (0, 0), 0.02 * pixels
    )
    cover = np.clip(hairs, 0, 1)[..., None] * detail.brow
    out *= 1 - cover * (1 - np.array(detail.brow_tint))

    both, bump = shape.both, shape.bump
    lips = bump(x, y, 0, -0.485, 0.17, 0.05)
    creases = cv2.GaussianBlur(random.normal(size=(1, side)), (0, 0), 0.008 * pixels)
    out *= (1 + 0.045 * creases / creases.std() * lips)[..., None]
    for sign in (-1, 1):
        hole = np.zeros((side, side), np.float32)
        axes = (round(0.036 * pixels * 8), round(0.013 * pixels * 8))
        cv2.ellipse(hole, at(sign * 0.064, -0.266), axes, sign * 18, 0, 360, 1.0, -1, cv2.LINE_AA, 3)
        hole = np.asarray(cv2.GaussianBlur(hole, (0, 0), 0.008 * pixels), dtype=np.float32)
        out *= 1 - hole[..., None] * np.array((0.72, 0.80, 0.80))

    if detail.freckles > 0:
        dots = np.zeros((side, side), np.float32)
        for _ in range(int(260 * detail.freckles)):
            place = at(random.normal() * 0.36, 0.05 + random.normal() * 0.13)
            cv2.circle(
                dots,
                place,
                round(random.uniform(0.006, 0.014) * pixels * 8),
                float(random.uniform(0.3, 1)),
                -1,
                cv2.LINE_AA,
                3,
            )
        out *= 1 - dots[..., None] * np.array((0.14, 0.22, 0.26))
    jaw = np.maximum(bump(x, y, 0, -0.80, 0.36, 0.17), both(x, y, 0.56, -0.40, 0.10, 0.24))
    jaw = np.maximum(jaw, both(x, y, 0.40, -0.66, 0.15, 0.13))
    jaw = np.clip(1.5 * np.maximum(jaw, 0.95 * bump(x, y, 0, -0.365, 0.18, 0.035)), 0, 1)
    jaw *= 1 - np.clip(1.6 * bump(x, y, 0, -0.485, 0.20, 0.062), 0, 1)
    jaw *= shape.smoothstep(y, -1.3, -1.0)
    if detail.stubble > 0:
        grain = np.clip(0.6 + 0.4 * soft(0.006), 0, 1.4)
        out *= 1 - (0.42 * detail.stubble * jaw * grain)[..., None] * np.array((1.0, 0.92, 0.85))
    if detail.beard > 0:
        grain = np.clip(0.85 + 0.18 * soft(0.006), 0, 1.2)
        mass = np.clip((jaw - 0.30 + 0.05 * soft(0.02)) / 0.35, 0, 1) * grain * detail.beard
        out *= 1 - np.clip(mass, 0, 0.97)[..., None] * (1 - np.array(detail.brow_tint))
    if detail.lines > 0:
        wrinkle = np.zeros((side, side), np.float32)
        for k, level in enumerate((0.74, 0.82, 0.90)):
            curve = [
                at(px, level + 0.012 * np.cos(px * 9 + k) + random.normal() * 0.002)
                for px in np.linspace(-0.34, 0.34, 24)
            ]
            cv2.polylines(
                wrinkle,
                [np.array(curve, np.int32)],
                False,
                0.35,
                max(1, round(0.008 * pixels)),
                cv2.LINE_AA,
                3,
            )
        for sign in (-1, 1):
            fold = [
                at(sign * px, py) for px, py in ((0.17, -0.19), (0.225, -0.26), (0.27, -0.34), (0.30, -0.43))
            ]
            cv2.polylines(
                wrinkle, [np.array(fold, np.int32)], False, 0.9, max(1, round(0.010 * pixels)), cv2.LINE_AA, 3
            )
            for dy in (0.0, -0.03):
                foot = [at(sign * 0.50, 0.335 + dy), at(sign * 0.57, 0.325 + 1.8 * dy)]
                cv2.polylines(
                    wrinkle,
                    [np.array(foot, np.int32)],
                    False,
                    0.5,
                    max(1, round(0.008 * pixels)),
                    cv2.LINE_AA,
                    3,
                )
        wrinkle = np.asarray(cv2.GaussianBlur(wrinkle, (0, 0), 0.012 * pixels), dtype=np.float32)
        out *= 1 - (0.55 * detail.lines * wrinkle)[..., None] * np.array((0.8, 1.0, 1.0))
    if detail.makeup > 0:
        shadow = both(x, y, 0.34, 0.425, 0.13, 0.030)
        out *= 1 - (0.35 * detail.makeup * shadow)[..., None] * np.array((0.8, 1.0, 0.85))
        out *= 1 - (0.42 * detail.makeup * np.clip(1.3 * bump(x, y, 0, -0.485, 0.15, 0.055), 0, 1))[
            ..., None
        ] * np.array((0.05, 0.75, 0.55))
        out *= 1 - (0.16 * detail.makeup * both(x, y, 0.42, -0.03, 0.13, 0.09))[..., None] * np.array(
            (0.0, 0.8, 0.6)
        )
    small = np.asarray(cv2.resize(out, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float64)
    small[0, :] = small[-1, :] = 1.0
    small[:, 0] = small[:, -1] = 1.0
    return small
