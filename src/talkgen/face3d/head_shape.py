"""The mean head as a formula: a lathe-like skull with a sculpted face, in decimetres.

Everything here is our own sculpture: a table of horizontal sections (width, depth, roundness by height), a
jaw that stands before the neck, and Gaussian bumps for nose, brows, cheeks and chin. Proportions follow
common anthropometry (pupils 64 mm apart, mouth 50 mm wide, face 150 mm broad).

Coordinates: x to the subject's left (right of the picture), y up, z towards the camera; the eyes are at
y = 0.35, the mouth at y = -0.47 and the chin at y = -0.92 (before `settle` lifts them a little), the
ears in the plane z = 0. The surface is laid out on a plane ``(angle, height)``: ``angle`` runs around the
vertical axis (0 = nose, ±π = nape), ``height`` equals y on the face and continues over the crown and under
the chin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]

EYE_CENTRE = np.array([0.325, 0.345, 0.79])
"""Centre of the subject's left eyeball; the right one is mirrored."""
EYE_RADIUS = 0.175
IRIS_RADIUS = 0.061
PUPIL_RADIUS = 0.026
MOUTH_HEIGHT = -0.475
MOUTH_HALF_WIDTH = 0.24
JAW_HINGE = np.array([0.0, 0.0, 0.12])
CROWN_HEIGHT = 1.95
NECK_HEIGHT = -1.75
SECTION_CENTRE_Z = 0.1

# height, y, half width, front z, back z, half width of the jaw, roundness exponent of the front
_SECTIONS = np.array(
    [
        (1.95, 1.440, 0.010, 0.12, 0.08, 0.010, 2.0),
        (1.85, 1.425, 0.200, 0.34, -0.18, 0.200, 2.0),
        (1.70, 1.385, 0.390, 0.57, -0.46, 0.390, 2.0),
        (1.50, 1.290, 0.560, 0.77, -0.68, 0.560, 2.0),
        (1.25, 1.130, 0.685, 0.915, -0.83, 0.685, 2.1),
        (1.00, 0.940, 0.755, 1.005, -0.91, 0.755, 2.15),
        (0.75, 0.740, 0.785, 1.055, -0.94, 0.785, 2.2),
        (0.55, 0.550, 0.795, 1.070, -0.94, 0.795, 2.25),
        (0.35, 0.350, 0.795, 1.040, -0.92, 0.795, 2.25),
        (0.10, 0.100, 0.785, 1.030, -0.87, 0.785, 2.25),
        (-0.15, -0.150, 0.750, 1.050, -0.80, 0.745, 2.2),
        (-0.35, -0.350, 0.695, 1.070, -0.72, 0.685, 2.1),
        (-0.50, -0.500, 0.650, 1.060, -0.67, 0.630, 2.05),
        (-0.65, -0.650, 0.595, 1.030, -0.62, 0.540, 2.0),
        (-0.80, -0.800, 0.560, 1.010, -0.58, 0.440, 2.0),
        (-0.90, -0.900, 0.545, 0.960, -0.55, 0.350, 2.0),
        (-0.97, -0.955, 0.525, 0.860, -0.54, 0.295, 2.0),
        (-1.05, -0.985, 0.510, 0.690, -0.53, 0.290, 2.0),
        (-1.15, -1.030, 0.495, 0.520, -0.53, 0.350, 2.0),
        (-1.30, -1.130, 0.485, 0.430, -0.53, 0.450, 2.0),
        (-1.75, -1.560, 0.500, 0.400, -0.56, 0.530, 2.0),
    ]
)[::-1]
_SECTION = PchipInterpolator(_SECTIONS[:, 0], _SECTIONS[:, 1:])
_NECK_FRONT = PchipInterpolator([-1.75, -1.3, -0.9, -0.6, -0.3], [0.36, 0.36, 0.36, 0.30, 0.1])

# The ridge of the nose: height, how far it stands out, its half width
_NOSE = np.array(
    [
        (-0.34, 0.000, 0.15),
        (-0.285, 0.040, 0.135),
        (-0.235, 0.145, 0.128),
        (-0.18, 0.235, 0.125),
        (-0.12, 0.272, 0.120),
        (-0.05, 0.250, 0.110),
        (0.05, 0.188, 0.100),
        (0.18, 0.125, 0.095),
        (0.30, 0.080, 0.098),
        (0.42, 0.048, 0.110),
        (0.55, 0.020, 0.13),
        (0.70, 0.000, 0.16),
    ]
)
_NOSE_RIDGE = PchipInterpolator(_NOSE[:, 0], _NOSE[:, 1:])


# Sculpted height → height in space: nose and mouth sit a little higher than they were sculpted
_SETTLED = PchipInterpolator(
    [-1.75, -0.95, -0.475, -0.11, 0.22, 0.60, 2.00], [-1.65, -0.852, -0.388, -0.040, 0.22, 0.60, 2.00]
)


def settle(points: Array) -> Array:
    """Shorten the middle of the face below the eyes; x and z stay."""
    out = points.copy()
    out[..., 1] = _SETTLED(points[..., 1])
    return out


def bump(x: Array, y: Array, x0: float, y0: float, sx: float, sy: float) -> Array:
    """A Gaussian of unit height at ``(x0, y0)`` with radii ``sx``, ``sy``."""
    return np.exp(-0.5 * (((x - x0) / sx) ** 2 + ((y - y0) / sy) ** 2))


def both(x: Array, y: Array, x0: float, y0: float, sx: float, sy: float) -> Array:
    """The same Gaussian on the left and on the right half of the face."""
    return bump(np.abs(x), y, x0, y0, sx, sy)


def smoothstep(value: Array, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, a cubic between (``low`` may be the larger: then it falls)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def half_width(height: Array) -> Array:
    """Half width of the horizontal section at a height."""
    return _SECTION(height)[..., 1]


def angle_of(x: Array, height: Array) -> Array:
    """Angle of the point of the front whose abscissa is ``x`` at a height."""
    return np.arcsin(np.clip(np.asarray(x) / half_width(np.asarray(height, dtype=float)), -1.0, 1.0))


def skull(angle: Array, height: Array) -> Array:
    """Head without features: points ``(..., 3)`` at angles and heights."""
    y, width, front, back, jaw, exponent = np.moveaxis(_SECTION(height), -1, 0)
    x = width * np.sin(angle)
    side = np.abs(np.sin(angle))
    # Front: the larger of face (as wide as the jaw) and neck, melted together where they meet.
    inside = np.clip(np.abs(x) / np.maximum(jaw, 1e-6), 0.0, 1.0)
    face = (front - SECTION_CENTRE_Z) * (1.0 - inside**exponent) ** (1.0 / exponent)
    neck = np.where(
        height < -0.3,
        (_NECK_FRONT(np.minimum(height, -0.3)) - SECTION_CENTRE_Z) * np.sqrt(np.maximum(1.0 - side**2, 0.0)),
        0.0,
    )
    melt = 0.05
    reach = np.clip(0.5 + 0.5 * (face - neck) / melt, 0.0, 1.0)
    forward = np.where(height < -0.3, face * reach + neck * (1 - reach) + melt * reach * (1 - reach), face)
    backward = (SECTION_CENTRE_Z - back) * np.sqrt(np.maximum(1.0 - side**2, 0.0))
    z = SECTION_CENTRE_Z + np.where(np.cos(angle) >= 0.0, forward, -backward)
    return np.stack([x, y, z], axis=-1)


def features(x: Array, height: Array) -> Array:
    """What nose, brows, cheeks, lips' surroundings and chin add to the front of the skull, ``(..., 3)``."""
    out = np.zeros((*np.shape(x), 3))
    within = np.clip(height, -0.34, 0.70)
    ridge, width = np.moveaxis(_NOSE_RIDGE(within), -1, 0)
    out[..., 2] += ridge * np.exp(-((np.abs(x) / width) ** 1.75))
    # wings of the nose, the crease above them, nostrils
    out[..., 2] += 0.105 * both(x, height, 0.118, -0.195, 0.042, 0.052)
    out[..., 2] -= 0.035 * both(x, height, 0.205, -0.16, 0.03, 0.07)
    out[..., 2] -= 0.075 * both(x, height, 0.062, -0.268, 0.032, 0.024)
    # sockets, brow bone, glabella, temples
    out[..., 2] -= 0.095 * both(x, height, 0.32, 0.345, 0.14, 0.085)
    out[..., 2] -= 0.018 * both(x, height, 0.15, 0.34, 0.06, 0.09)
    out[..., 2] += 0.035 * both(x, height, 0.28, 0.53, 0.20, 0.06)
    out[..., 2] -= 0.03 * both(x, height, 0.72, 0.62, 0.10, 0.20)
    # cheek bones, cheeks, folds from nose to mouth
    out[..., 2] += 0.055 * both(x, height, 0.50, 0.12, 0.16, 0.11)
    out[..., 2] += 0.045 * both(x, height, 0.30, -0.02, 0.12, 0.12)
    out[..., 2] -= 0.022 * both(x, height, 0.52, -0.30, 0.13, 0.14)
    out[..., 2] -= 0.020 * both(x, height, 0.285, -0.33, 0.045, 0.10)
    # muzzle, philtrum, chin fold, chin
    out[..., 2] += 0.060 * bump(x, height, 0.0, -0.44, 0.19, 0.13)
    out[..., 2] -= 0.014 * bump(x, height, 0.0, -0.345, 0.028, 0.05)
    out[..., 2] += 0.008 * both(x, height, 0.045, -0.35, 0.02, 0.05)
    out[..., 2] -= 0.055 * bump(x, height, 0.0, -0.655, 0.16, 0.045)
    out[..., 2] += 0.065 * bump(x, height, 0.0, -0.83, 0.15, 0.085)
    out[..., 1] -= 0.03 * bump(x, height, 0.0, -0.95, 0.14, 0.06)
    return out


def surface(angle: Array, height: Array) -> Array:
    """The bare head (no lips, no lids): points ``(..., 3)``."""
    points = skull(angle, height)
    front = smoothstep(np.cos(angle), -0.05, 0.35)[..., None]
    return points + features(points[..., 0], height) * front
