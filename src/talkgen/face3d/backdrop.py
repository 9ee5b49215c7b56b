"""Backgrounds: gradients, out-of-focus lights, book shelves, a news studio, a window, a wall."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

KINDS = ("gradient", "bokeh", "shelves", "studio", "window", "wall")


def paint_backdrop(kind: str, size: int, seed: int) -> NDArray[np.float32]:
    """A picture (size, size, 3) in [0, 1], blurred as a far background is; same seed, same picture."""
    random = np.random.default_rng(seed)
    side = 256
    hue = random.uniform(0, 1)
    base = _hue(hue, random.uniform(0.15, 0.5), random.uniform(0.35, 0.75))
    other = _hue(hue + random.uniform(0.05, 0.4), random.uniform(0.15, 0.5), random.uniform(0.15, 0.5))
    ramp = np.linspace(0, 1, side)
    tilt = random.uniform(-0.6, 0.6)
    share = np.clip(ramp[:, None] + tilt * (ramp[None, :] - 0.5), 0, 1)[..., None]
    picture = np.ascontiguousarray(base * (1 - share) + other * share).astype(np.float32)
    blur = 3.0

    def block(x0: float, y0: float, x1: float, y1: float, colour: NDArray[np.floating]) -> None:
        corner0, corner1 = (round(x0 * side), round(y0 * side)), (round(x1 * side), round(y1 * side))
        cv2.rectangle(picture, corner0, corner1, tuple(float(c) for c in colour), -1, cv2.LINE_AA)

    if kind == "bokeh":
        picture *= 0.45
        for _ in range(int(random.integers(18, 34))):
            layer = np.zeros_like(picture)
            centre = tuple(int(v) for v in random.integers(0, side, 2))
            cv2.circle(
                layer,
                centre,
                int(random.integers(8, 26)),
                tuple(float(c) for c in _hue(random.uniform(), 0.55, 0.9)),
                -1,
                cv2.LINE_AA,
            )
            picture = np.maximum(picture, picture + layer * random.uniform(0.2, 0.6)).astype(np.float32)
        blur = 4.0
    elif kind == "shelves":
        picture[:] = _hue(0.08, 0.45, 0.30)
        for row in range(5):
            x = 0.0
            while x < 1.0:
                width, height = random.uniform(0.02, 0.055), random.uniform(0.10, 0.165)
                if random.uniform() < 0.9:
                    block(
                        x,
                        0.19 + row * 0.2 - height,
                        x + width * 0.92,
                        0.19 + row * 0.2,
                        _hue(random.uniform(), random.uniform(0.2, 0.65), random.uniform(0.2, 0.75)),
                    )
                x += width
            block(0.0, 0.19 + row * 0.2, 1.0, 0.205 + row * 0.2, _hue(0.08, 0.5, 0.42))
        blur = 3.2
    elif kind == "studio":
        picture *= 0.7
        for _ in range(7):
            x, width = random.uniform(-0.1, 1.0), random.uniform(0.06, 0.25)
            block(x, 0.0, x + width, 1.0, np.clip(base * random.uniform(0.5, 1.5), 0, 1))
        for _ in range(3):
            y = random.uniform(0.05, 0.9)
            block(0.0, y, 1.0, y + 0.015, np.clip(base * 1.6 + 0.1, 0, 1))
        blur = 4.5
    elif kind == "window":
        x = random.choice([0.05, 0.60])
        block(x, 0.08, x + 0.36, 0.78, np.array((0.86, 0.90, 0.94)))
        for k in range(1, 3):
            block(x + 0.12 * k - 0.006, 0.08, x + 0.12 * k + 0.006, 0.78, np.array((0.45, 0.40, 0.36)))
        block(x - 0.10, 0.03, x - 0.01, 0.95, np.clip(base * 1.2, 0, 1))
        block(x + 0.37, 0.03, x + 0.46, 0.95, np.clip(base * 1.2, 0, 1))
    elif kind == "wall":
        for _ in range(2):
            x, y = random.uniform(0.0, 0.8), random.uniform(0.02, 0.4)
            width, height = random.uniform(0.12, 0.3), random.uniform(0.12, 0.3)
            block(x, y, x + width, y + height, np.array((0.18, 0.15, 0.13)))
            block(
                x + 0.015, y + 0.015, x + width - 0.015, y + height - 0.015, _hue(random.uniform(), 0.35, 0.7)
            )
        block(0.0, 0.82, 1.0, 1.0, np.clip(other * 0.7, 0, 1))
        blur = 2.2
    picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur), dtype=np.float32)
    grain = cv2.GaussianBlur(random.normal(size=(side, side)).astype(np.float32), (0, 0), 1.0)[..., None]
    picture = (
        picture * (1 - 0.18 * ((ramp[:, None] - 0.5) ** 2 + (ramp[None, :] - 0.5) ** 2)[..., None] * 2)
        + 0.01 * grain
    )
    resized = cv2.resize(
        picture, (size, size), interpolation=cv2.INTER_AREA if size <= side else cv2.INTER_CUBIC
    )
    return np.ascontiguousarray(np.clip(resized, 0, 1), dtype=np.float32)


def _hue(hue: float, saturation: float, value: float) -> NDArray[np.float32]:
    """RGB of hue, saturation and value in [0, 1]."""
    k = (np.array([5.0, 3.0, 1.0]) + (hue % 1.0) * 6) % 6
    return (value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)
