"""Topology and rest shape of the head: skin with lids and lips, eyeballs, teeth, tongue, mouth cavity, ears.

The skin is triangulated on the plane (angle, height) of `head_shape`: rings of points follow the lids and
the lips, a graded grid fills the rest, Delaunay joins them, triangles inside the three openings are
dropped, and the half is mirrored, so the mesh is exactly symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from talkgen.face3d import head_shape as shape

Array = NDArray[np.float64]
Index = NDArray[np.int64]

PLANE_SCALE = 0.8
"""The plane's abscissa is angle times this, so that it is close to x on the face."""
PARTS = ("skin", "ears", "eyes", "teeth_upper", "teeth_lower", "tongue", "mouth_bag")

_EYE_COLUMNS = 12
_EYE_RINGS = (0.0, 0.012, 0.036, 0.070, 0.115)
_MOUTH_COLUMNS = 14
_EYEBALL_SEGMENTS = 24


@dataclass(frozen=True)
class HeadMesh:
    """Mesh of the head at rest.

    Attributes:
        vertices: (n, 3) decimetres.
        sculpted: (n, 3), the same before `head_shape.settle`: the places by which features are named.
        triangles: (m, 3) int64, counter-clockwise seen from outside.
        part: (n,) index into ``PARTS``.
        plane: (n, 2) for skin: x and height at which the vertex lies on the bare head; for others their x
            and y.
        angle: (n,) angle around the vertical axis (skin), radians.
        lip_side: (n,) 1 upper lip, -1 lower lip, 0 elsewhere and at the corners.
        lip_depth: (n,) 1 on the inner rim of the lips, falling to 0 at the outer contour, beyond 1 inside
            the mouth.
        lid: (n,) 1 on the rim of an upper lid, -1 on the rim of a lower lid, falling to 0 with the rings
            around.
        lid_partner: (n,) index of the vertex on the opposite lid (itself elsewhere).
        ring: (n,) ring number around an eye (0..4), or 10 + ring around the mouth, else -1.
        mirror: (n,) index of the mirrored vertex.
        landmarks: (68,) vertex of each iBUG landmark.
        lip_outer, lip_inner: loops of vertices around the outer and inner contour of the lips.
        lid_left, lid_right: loops of vertices around the eye openings (subject's left and right).
    """

    vertices: Array
    sculpted: Array
    triangles: Index
    part: Index
    plane: Array
    angle: Array
    lip_side: Array
    lip_depth: Array
    lid: Array
    lid_partner: Index
    ring: Index
    mirror: Index
    landmarks: Index
    lip_outer: Index
    lip_inner: Index
    lid_left: Index
    lid_right: Index

    def of(self, *parts: str) -> NDArray[np.bool_]:
        """Mask of the vertices that belong to the named parts."""
        return np.isin(self.part, [PARTS.index(name) for name in parts])


def mouth_line(x: Array) -> Array:
    """Height of the closed mouth at an abscissa: a shallow bow whose corners hang a little."""
    t = np.clip(np.abs(x) / shape.MOUTH_HALF_WIDTH, 0, 1)
    return shape.MOUTH_HEIGHT + 0.006 * np.cos(t * np.pi * 2.0) - 0.010 * t**2


def _lip_height(t: Array, upper: bool) -> Array:
    """Height of the lip's outer contour over the mouth line; t = 0 middle, 1 corner."""
    if upper:
        return (
            0.078 * (1 - t**1.9) ** 0.85
            + 0.010 * np.exp(-(((t - 0.2) / 0.13) ** 2))
            - 0.008 * np.exp(-((t / 0.1) ** 2))
        )
    return -0.100 * (1 - t**2.3) ** 0.8


def _eye_rings() -> tuple[Array, Array, Index, Array, Index]:
    """Rings round the left eye: plane xy, rest points, ring numbers, lid weights, partner (index within)."""
    i = np.arange(_EYE_COLUMNS + 1)
    t = -np.cos(np.pi * i / _EYE_COLUMNS)
    cx, cy, cz = shape.EYE_CENTRE
    tilt = 0.012 * t
    upper = np.stack(
        [cx + 0.155 * t, cy + tilt + 0.060 * np.clip(1 - np.abs(t + 0.08) ** 2.3, 0, 1) ** 0.9], 1
    )
    lower = np.stack([cx + 0.155 * t, cy + tilt - 0.044 * (1 - np.abs(t - 0.05) ** 2.2).clip(0) ** 0.9], 1)
    upper[[0, -1]] = lower[[0, -1]] = np.stack([cx + 0.155 * t[[0, -1]], cy + tilt[[0, -1]]], 1)
    loop = np.concatenate([upper, lower[-2:0:-1]])
    kind = np.concatenate([[0.0], np.ones(_EYE_COLUMNS - 1), [0.0], -np.ones(_EYE_COLUMNS - 1)])
    partner = np.concatenate(
        [[0], np.arange(len(loop) - 1, _EYE_COLUMNS, -1), [_EYE_COLUMNS], np.arange(_EYE_COLUMNS - 1, 0, -1)]
    )
    outward = (loop - (cx, cy)) * (0.33, 1.0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    planes, points, rings, lids, partners = [], [], [], [], []
    for k, distance in enumerate(_EYE_RINGS):
        plane = loop + outward * distance * np.where(kind > 0, 1.15, 1.0)[:, None]
        bare = shape.surface(shape.angle_of(plane[:, 0], plane[:, 1]), plane[:, 1])
        lifted = bare.copy()
        lifted[:, :2] = plane
        radius = shape.EYE_RADIUS + (0.015, 0.021, 0.021, 0.02, 0.02)[k]
        ball = cz + np.sqrt(np.maximum(radius**2 - ((plane - (cx, cy)) ** 2).sum(1), 0.004))
        blend = (0.0, 0.03, 0.22, 0.62, 0.92)[k]
        lifted[:, 2] = ball * (1 - blend) + bare[:, 2] * blend
        if k in (2, 3):  # crease over the upper lid
            lifted[:, 2] -= np.where(kind > 0, (0.010, 0.004)[k - 2], 0.0)
        planes.append(plane)
        points.append(lifted)
        rings.append(np.full(len(loop), k))
        lids.append(kind * (1.0, 0.97, 0.72, 0.30, 0.05)[k])
        partners.append(partner + k * len(loop))
    return (
        np.concatenate(planes),
        np.concatenate(points),
        np.concatenate(rings),
        np.concatenate(lids),
        np.concatenate(partners),
    )


# ring: corner abscissa, height in the plane, share of the lip's height at rest, depth label
_MOUTH_RINGS = (
    (0.206, 0.012, -0.16, 1.3),
    (0.216, 0.026, -0.07, 1.15),
    (0.226, 0.045, 0.0, 1.0),
    (0.231, 0.065, 0.22, 0.85),
    (0.237, 0.085, 0.55, 0.5),
    (0.246, 0.000, 1.0, 0.0),
    (0.262, 0.000, 1.0, 0.0),
    (0.292, 0.000, 1.0, 0.0),
)
_MOUTH_BEYOND = {5: 0.0, 6: 0.018, 7: 0.055}


def _mouth_rings() -> tuple[Array, Array, Index, Array, Array]:
    """Rings round the left half of the mouth: plane xy, rest points, ring numbers, lip side, lip depth."""
    planes, points, rings, sides, depths = [], [], [], [], []
    t = np.sin(0.5 * np.pi * np.arange(_MOUTH_COLUMNS + 1) / _MOUTH_COLUMNS)
    for k, (corner, opening, share, depth) in enumerate(_MOUTH_RINGS):
        for upper in (True, False):
            tt = t if upper else t[-2::-1]
            sign = 1.0 if upper else -1.0
            x = corner * tt
            line = mouth_line(x)
            outline = _lip_height(tt, upper)
            profile = np.sqrt(np.maximum(1 - tt**2, 0.0))
            beyond = _MOUTH_BEYOND.get(k, 0.0)
            inside = min(share, 0.0)
            height = line + outline * max(share, 0.0) + sign * beyond * (0.25 + 0.75 * profile)
            if k < 5:
                plane_height = shape.MOUTH_HEIGHT + sign * opening * profile
            else:
                plane_height = (
                    shape.MOUTH_HEIGHT
                    + (outline + sign * 0.045 * profile)
                    + sign * beyond * (0.25 + 0.75 * profile)
                )
            if share < 0:  # folded inwards behind the rim
                height = line + sign * 0.10 * (-inside) * 0.9
            bare = shape.surface(shape.angle_of(x, height), height)
            fullness = np.maximum(1 - tt**2.2, 0.0) ** 0.8
            swell = (
                np.array([-0.10, -0.035, 0.024, 0.052, 0.058, 0.012, 0.004, 0.0])[k]
                if upper
                else np.array([-0.11, -0.040, 0.018, 0.058, 0.064, 0.000, -0.006, -0.004])[k]
            )
            if k < 2:
                bare[:, 2] += swell
            else:
                bare[:, 2] += swell * fullness - 0.016 * (1 - fullness) * (k in (2, 3, 4, 5))
            planes.append(np.stack([x, plane_height], 1))
            points.append(bare)
            rings.append(np.full(len(x), 10 + k))
            sides.append(np.where(tt >= 0.999, 0.0, sign))
            depths.append(np.full(len(x), depth))
    return (
        np.concatenate(planes),
        np.concatenate(points),
        np.concatenate(rings),
        np.concatenate(sides),
        np.concatenate(depths),
    )


def _inside(points: Array, polygon: Array) -> NDArray[np.bool_]:
    """Which points lie in a polygon (even-odd rule)."""
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, 0).T
    crosses = ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / np.where(y1 == y0, 1e-12, y1 - y0) + x0)
    return (crosses.sum(1) % 2) == 1


def _rows(low: float, high: float, reach: float, spacing: float) -> Array:
    """A staggered grid over ``[0, reach] x [low, high]`` that always holds the line 0."""
    points = []
    for row, height in enumerate(np.arange(low, high + 1e-9, spacing * 0.87)):
        xs = (
            np.arange(0.0, reach, spacing)
            if row % 2 == 0
            else np.concatenate([[0.0], np.arange(spacing / 2, reach, spacing)])
        )
        points.append(np.stack([xs, np.full(len(xs), height)], 1))
    return np.concatenate(points)


def _grid() -> Array:
    """Graded points of the skin's plane: fine on the nose, medium on the face, coarse at the back."""
    nose = _rows(-0.36, 0.34, 0.27, 0.036)
    face = np.concatenate([_rows(-0.52, 0.90, 0.80, 0.056), _rows(-1.12, -0.56, 0.80, 0.046)])
    face = face[~((face[:, 0] < 0.29) & (face[:, 1] > -0.385) & (face[:, 1] < 0.36))]
    around = _rows(shape.NECK_HEIGHT, shape.CROWN_HEIGHT, 2.45, 0.125)
    around = around[~((around[:, 0] < 0.85) & (around[:, 1] > -1.16) & (around[:, 1] < 0.96))]
    back = np.stack(
        [np.full(28, np.pi * PLANE_SCALE), np.linspace(shape.NECK_HEIGHT, shape.CROWN_HEIGHT, 28)], 1
    )
    ends = np.stack([np.linspace(0, np.pi * PLANE_SCALE, 22)[1:-1]] * 2, 0)
    edge = np.concatenate(
        [
            np.stack([ends[0], np.full(20, shape.NECK_HEIGHT)], 1),
            np.stack([ends[1], np.full(20, shape.CROWN_HEIGHT)], 1),
            [[0.0, shape.CROWN_HEIGHT], [0.0, shape.NECK_HEIGHT]],
        ]
    )
    inner = around[(around[:, 1] > shape.NECK_HEIGHT + 0.05) & (around[:, 1] < shape.CROWN_HEIGHT - 0.05)]
    return np.concatenate([nose, face, inner, back, edge])


def _skin() -> dict[str, NDArray]:
    """The skin: rest points, triangles and per-vertex labels, mirrored."""
    eye_plane, eye_points, eye_ring, eye_lid, eye_partner = _eye_rings()
    mouth_plane, mouth_points, mouth_ring, mouth_side, mouth_depth = _mouth_rings()

    def to_plane(xy: Array) -> Array:
        return np.stack([shape.angle_of(xy[:, 0], xy[:, 1]) * PLANE_SCALE, xy[:, 1]], 1)

    eye_uv, mouth_uv = to_plane(eye_plane), to_plane(mouth_plane)
    size = 2 * _EYE_COLUMNS
    eye_outer = eye_uv[-size:]
    mouth_outer = mouth_uv[-(2 * _MOUTH_COLUMNS + 1) :]
    grid = _grid()
    centre = eye_outer.mean(0)
    keep = ~_inside(grid, centre + (eye_outer - centre) * 1.16)
    closed = np.concatenate([[[-1.0, mouth_outer[0, 1]]], mouth_outer, [[-1.0, mouth_outer[-1, 1]]]])
    middle = np.array([0.0, shape.MOUTH_HEIGHT])
    keep &= ~_inside(grid, middle + (closed - middle) * 1.12)
    grid = grid[keep]
    uv = np.concatenate([eye_uv, mouth_uv, grid])
    n_eye, n_mouth = len(eye_uv), len(mouth_uv)
    grid_points = shape.surface(grid[:, 0] / PLANE_SCALE, grid[:, 1])
    points = np.concatenate([eye_points, mouth_points, grid_points])
    plane = np.concatenate(
        [eye_points[:, :2], mouth_points[:, :2], np.stack([grid_points[:, 0], grid[:, 1]], 1)]
    )
    fill = np.zeros(len(grid))
    labels = {
        "ring": np.concatenate([eye_ring, mouth_ring, np.full(len(grid), -1)]),
        "lid": np.concatenate([eye_lid, np.zeros(n_mouth), fill]),
        "lip_side": np.concatenate([np.zeros(n_eye), mouth_side, fill]),
        "lip_depth": np.concatenate([np.zeros(n_eye), mouth_depth, fill]),
        "lid_partner": np.concatenate([eye_partner, np.arange(n_eye, len(uv))]),
    }
    triangles = Delaunay(uv).simplices.astype(np.int64)
    ring = labels["ring"][triangles]
    hole = (ring == 0).all(1) | (ring == 10).all(1)
    a, b, c = uv[triangles[:, 0]], uv[triangles[:, 1]], uv[triangles[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles[area < 0] = triangles[area < 0][:, ::-1]
    triangles = triangles[(np.abs(area) > 1e-9) & ~hole]
    points = _smooth_jaw(points, triangles, labels["ring"], uv)

    on_axis = (uv[:, 0] < 1e-9) | (uv[:, 0] > np.pi * PLANE_SCALE - 1e-9)
    points[on_axis, 0] = 0.0
    n = len(uv)
    other = np.where(on_axis, np.arange(n), -1)
    other[~on_axis] = n + np.arange((~on_axis).sum())
    mirror = np.concatenate([other, np.flatnonzero(~on_axis)])
    flipped = points[~on_axis] * (-1.0, 1.0, 1.0)
    out: dict[str, NDArray] = {
        name: np.concatenate([value, value[~on_axis]]) for name, value in labels.items()
    }
    out["lid_partner"][n:] = other[labels["lid_partner"][~on_axis]]
    out["vertices"] = np.concatenate([points, flipped])
    out["plane"] = np.concatenate([plane, plane[~on_axis] * (-1.0, 1.0)])
    angle = uv[:, 0] / PLANE_SCALE
    out["angle"] = np.concatenate([angle, -angle[~on_axis]])
    out["triangles"] = np.concatenate([triangles, other[triangles][:, ::-1]])
    out["mirror"] = mirror
    return out


def _smooth_jaw(points: Array, triangles: Index, ring: Index, uv: Array) -> Array:
    """Three rounds of umbrella smoothing where the jaw turns under the chin (the sections crease there)."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    share = shape.smoothstep(uv[:, 1], -0.50, -0.72) * shape.smoothstep(uv[:, 1], -1.6, -1.3)
    share = np.where((ring >= 0) | (uv[:, 0] > 1.2), 0.0, 0.6 * share)[:, None]
    axis = uv[:, 0] < 1e-9
    for _ in range(4):
        total, count = np.zeros_like(points), np.zeros((len(points), 1))
        for a, b in ((0, 1), (1, 0)):
            np.add.at(total, edges[:, a], points[edges[:, b]])
            np.add.at(count, edges[:, a], 1.0)
        # the mirrored half counts too, so that points on the axis stay on it
        mean = total / count
        mean[axis, 0] = 0.0
        points = points * (1 - share) + mean * share
    return points


def _sheet(rows: int, columns: int, wrap: bool = False) -> Index:
    """Triangles of a grid of ``rows`` x ``columns`` vertices in row-major order."""
    last = columns if wrap else columns - 1
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij")
    a = (r * columns + c).ravel()
    b = (r * columns + (c + 1) % columns).ravel()
    return np.concatenate([np.stack([a, a + columns, b], 1), np.stack([b, a + columns, b + columns], 1)])


def _eyeball() -> tuple[Array, Index]:
    """Front of the left eyeball: a pole and rings, doubled at the rims of pupil and iris so that colours
    stay sharp."""
    radii = (
        0.014,
        shape.PUPIL_RADIUS,
        shape.PUPIL_RADIUS + 0.003,
        0.045,
        shape.IRIS_RADIUS,
        shape.IRIS_RADIUS + 0.004,
        0.095,
        0.135,
        0.168,
    )
    turn = 2 * np.pi * np.arange(_EYEBALL_SEGMENTS) / _EYEBALL_SEGMENTS
    points = [np.array([[0.0, 0.0, shape.EYE_RADIUS]])]
    for radius in radii:
        depth = np.sqrt(shape.EYE_RADIUS**2 - radius**2)
        points.append(
            np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full(_EYEBALL_SEGMENTS, depth)], 1)
        )
    triangles = _sheet(len(radii), _EYEBALL_SEGMENTS, wrap=True) + 1
    around = 1 + np.arange(_EYEBALL_SEGMENTS)
    cap = np.stack([np.zeros_like(around), around, np.roll(around, -1)], 1)
    return np.concatenate(points) + shape.EYE_CENTRE, np.concatenate([cap, triangles])


def _teeth(upper: bool) -> tuple[Array, Index]:
    """One arch of teeth: four rows by 33 columns; every fourth column lies in the gap between two teeth."""
    columns, reach = 33, (0.215 if upper else 0.185)
    x = np.linspace(-reach, reach, columns)
    front = 1.0 if upper else 0.955
    rows = []
    for share in (0.0, 0.35, 0.75, 1.0):
        if upper:
            y = shape.MOUTH_HEIGHT + 0.095 - share * (0.098 - 0.02 * (np.abs(x) / reach) ** 2)
        else:
            y = np.full(columns, shape.MOUTH_HEIGHT - 0.125 + share * 0.085)
        bulge = 0.010 * np.sin(np.pi * (0.2 + 0.7 * share))
        gap = np.where(np.arange(columns) % 4 == 0, -0.006, 0.0)
        z = front - 2.6 * np.abs(x) ** 2.2 + bulge + gap
        rows.append(
            np.stack(
                [
                    x,
                    np.broadcast_to(y, x.shape)
                    + np.where(share == 1.0, -np.sign(0.5 - upper) * -gap * 0.6, 0.0),
                    z,
                ],
                1,
            )
        )
    return np.concatenate(rows), _sheet(4, columns)[:, ::1] if upper else _sheet(4, columns)[:, ::-1]


def _tongue() -> tuple[Array, Index]:
    """The tongue: the upper front of a flat ellipsoid behind the lower teeth."""
    rows, columns = 7, 13
    s, t = np.meshgrid(np.linspace(0, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    around = s * 0.62 * np.pi
    x = 0.15 * np.sin(t * np.pi / 2) * (0.55 + 0.45 * np.cos(around - 0.6))
    y = (
        shape.MOUTH_HEIGHT
        - 0.10
        + 0.05 * np.cos(around) * np.cos(t * np.pi / 2) ** 0.5
        - 0.012 * np.exp(-((t / 0.18) ** 2))
    )
    z = 0.80 + 0.17 * np.sin(around) * np.cos(t * np.pi / 2 * 0.85) ** 0.6
    return np.stack([x, y, z], -1).reshape(-1, 3), _sheet(rows, columns)


def _mouth_bag() -> tuple[Array, Index]:
    """The dark cavity: a bowl that closes the mouth from behind."""
    rows, columns = 5, 20
    s, t = np.meshgrid(np.linspace(1, 0, rows), 2 * np.pi * np.arange(columns) / columns, indexing="ij")
    x = 0.27 * s * np.cos(t)
    y = shape.MOUTH_HEIGHT - 0.02 + 0.17 * s * np.sin(t)
    z = 0.70 + 0.20 * s**3 - 0.9 * np.maximum(np.abs(x) - 0.1, 0.0) ** 2
    return np.stack([x, y, z], -1).reshape(-1, 3), _sheet(rows, columns, wrap=True)


def _ear() -> tuple[Array, Index]:
    """The left ear: rings from the rim to the canal with helix, antihelix and lobe."""
    rows, columns = 8, 20
    t = np.tile(2 * np.pi * np.arange(columns) / columns, (rows, 1))
    radius = np.array([0.80, 1.0, 0.93, 0.80, 0.66, 0.50, 0.34, 0.0])[:, None] * np.ones_like(t)
    across = 0.165 * (1 + 0.18 * np.sin(t)) * np.cos(t)
    along = 0.31 * np.sin(t) * (1 - 0.06 * np.cos(t))
    along, across = radius * along, radius * across
    lift = np.array([0.00, 0.050, 0.075, 0.045, 0.070, 0.028, -0.01, -0.03])[:, None] * (
        0.75 + 0.25 * np.sin(t)
    )
    lobe = shape.bump(across, along, 0.02, -0.27, 0.08, 0.08)
    lift = lift * (1 - 0.5 * lobe)
    stand = 0.10 * np.clip(0.5 - across / 0.33, 0, 1) ** 1.2  # the rear edge stands off the head
    x = 0.745 + lift + stand - 0.05 * np.maximum(-along - 0.1, 0.0)
    y = 0.16 + along - 0.15 * across
    z = 0.03 + across + 0.22 * along * 0.5
    return np.stack([x, y, z], -1).reshape(-1, 3), _sheet(rows, columns, wrap=True)


def _orient_outwards(points: Array, triangles: Index, direction: Array) -> Index:
    """Turn all triangles so that their mean normal has a positive share along ``direction``."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    mean = np.cross(b - a, c - a).sum(0)
    return triangles if mean @ direction > 0 else triangles[:, ::-1]


def _landmarks(
    vertices: Array, plane: Array, angle: Array, mesh: dict[str, NDArray]
) -> tuple[Index, dict[str, Index]]:
    """Vertices of the 68 iBUG landmarks and the loops of lips and lids."""
    ring, side = mesh["ring"], mesh["lip_side"]
    skin = len(ring)

    def nearest(x: float, y: float) -> int:
        return int(
            np.argmin(
                (plane[:skin, 0] - x) ** 2
                + (plane[:skin, 1] - y) ** 2
                + 9.0 * (ring >= 0)
                + 9.0 * (vertices[:skin, 2] < 0)
            )
        )

    def by_angle(degrees: float, height: float) -> int:
        return int(
            np.argmin(
                (angle[:skin] - np.radians(degrees)) ** 2
                + (plane[:skin, 1] - height) ** 2
                + 9.0 * (ring >= 0)
            )
        )

    half = [
        (77, 0.33),
        (77, 0.12),
        (76, -0.10),
        (73, -0.31),
        (66, -0.50),
        (54, -0.66),
        (39, -0.79),
        (20, -0.885),
    ]
    jaw = [by_angle(-a, h) for a, h in half] + [by_angle(0, -0.93)] + [by_angle(a, h) for a, h in half[::-1]]
    brow_x, brow_y = (0.50, 0.42, 0.32, 0.22, 0.125), (0.53, 0.575, 0.59, 0.575, 0.545)
    brows = [nearest(-x, y) for x, y in zip(brow_x, brow_y, strict=True)]
    brows += [nearest(x, y) for x, y in zip(brow_x[::-1], brow_y[::-1], strict=True)]
    nose = [nearest(0.0, y) for y in (0.36, 0.21, 0.06, -0.11)]
    nose += [
        nearest(x, y)
        for x, y in ((-0.115, -0.235), (-0.06, -0.262), (0.0, -0.278), (0.06, -0.262), (0.115, -0.235))
    ]

    def loop(members: NDArray[np.bool_], centre: tuple[float, float]) -> Index:
        ids = np.flatnonzero(members)
        turn = np.arctan2(vertices[ids, 1] - centre[1], (vertices[ids, 0] - centre[0]))
        return ids[np.argsort(turn)]

    eyes: list[int] = []
    loops = {}
    for name, sign in (("right", -1.0), ("left", 1.0)):
        cx, cy = sign * shape.EYE_CENTRE[0], shape.EYE_CENTRE[1]
        members = (ring == 0) & (np.sign(vertices[:skin, 0]) == sign)
        ids = loop(members, (cx, cy))
        loops[name] = ids
        x = vertices[ids, 0] - cx
        upper, lower = ids[mesh["lid"][ids] > 0], ids[mesh["lid"][ids] < 0]

        def pick(row: Index, offset: float, cx: float = cx) -> int:
            return int(row[np.argmin(np.abs(vertices[row, 0] - cx - offset))])

        eyes += [
            int(ids[np.argmin(x)]),
            pick(upper, -0.06),
            pick(upper, 0.06),
            int(ids[np.argmax(x)]),
            pick(lower, 0.06),
            pick(lower, -0.06),
        ]

    def ordered(number: int, upper: bool) -> Index:
        members = np.flatnonzero((ring == number) & ((side > 0) if upper else (side < 0)))
        return members[np.argsort(vertices[members, 0])]

    def corners(number: int) -> tuple[int, int]:
        members = np.flatnonzero((ring == number) & (side == 0))
        return int(members[np.argmin(vertices[members, 0])]), int(members[np.argmax(vertices[members, 0])])

    def at(row: Index, x: float) -> int:
        return int(row[np.argmin(np.abs(vertices[row, 0] - x))])

    top, bottom = ordered(15, True), ordered(15, False)
    right, left = corners(15)
    mouth = [right, *(at(top, x) for x in (-0.145, -0.052, 0.0, 0.052, 0.145)), left]
    mouth += [at(bottom, x) for x in (0.145, 0.06, 0.0, -0.06, -0.145)]
    inner_top, inner_bottom = ordered(12, True), ordered(12, False)
    inner_right, inner_left = corners(12)
    mouth += [
        inner_right,
        *(at(inner_top, x) for x in (-0.09, 0.0, 0.09)),
        inner_left,
        *(at(inner_bottom, x) for x in (0.09, 0.0, -0.09)),
    ]
    loops["outer"] = np.concatenate([[right], top, [left], bottom[::-1]])
    loops["inner"] = np.concatenate([[inner_right], inner_top, [inner_left], inner_bottom[::-1]])
    return np.array(jaw + brows + nose + eyes + mouth), loops


@lru_cache(maxsize=1)
def head_mesh() -> HeadMesh:
    """Build the head (once per process)."""
    skin = _skin()
    parts: list[tuple[str, Array, Index]] = []
    ear, ear_triangles = _ear()
    ear_triangles = _orient_outwards(ear, ear_triangles, np.array([1.0, 0.0, 0.3]))
    eye, eye_triangles = _eyeball()
    eye_triangles = _orient_outwards(eye, eye_triangles, np.array([0.0, 0.0, 1.0]))
    flip = np.array([-1.0, 1.0, 1.0])
    parts += [("ears", ear, ear_triangles), ("ears", ear * flip, ear_triangles[:, ::-1])]
    parts += [("eyes", eye, eye_triangles), ("eyes", eye * flip, eye_triangles[:, ::-1])]
    for name, (points, triangles) in (
        ("teeth_upper", _teeth(True)),
        ("teeth_lower", _teeth(False)),
        ("tongue", _tongue()),
        ("mouth_bag", _mouth_bag()),
    ):
        parts.append(
            (
                name,
                points,
                _orient_outwards(points, triangles, np.array([0.0, 0.3 if name == "tongue" else 0.0, 1.0])),
            )
        )
    n = len(skin["vertices"])
    vertices: list[NDArray] = [skin["vertices"]]
    faces_of: list[NDArray] = [skin["triangles"]]
    part: list[NDArray] = [np.zeros(n, dtype=np.int64)]
    for name, points, faces in parts:
        faces_of.append(faces + sum(len(v) for v in vertices))
        vertices.append(points)
        part.append(np.full(len(points), PARTS.index(name)))
    every = np.concatenate(vertices)
    total = len(every)

    def extend(value: NDArray, fill: float = 0.0) -> NDArray:
        return np.concatenate([value, np.full(total - n, fill, dtype=value.dtype)])

    labels = np.concatenate(part)
    mirror = np.empty(total, dtype=np.int64)
    mirror[:n] = skin["mirror"]
    for label in np.unique(labels[n:]):
        ids = np.flatnonzero(labels == label)
        distance = ((every[ids][:, None] - (every[ids] * flip)[None]) ** 2).sum(-1)
        mirror[ids] = ids[np.argmin(distance, axis=0)]
    landmarks, loops = _landmarks(skin["vertices"], skin["plane"], skin["angle"], skin)
    return HeadMesh(
        vertices=shape.settle(every),
        sculpted=every,
        triangles=np.concatenate(faces_of),
        part=np.concatenate(part),
        plane=np.concatenate([skin["plane"], every[n:, :2]]),
        angle=np.concatenate([skin["angle"], np.arctan2(every[n:, 0], every[n:, 2])]),
        lip_side=extend(skin["lip_side"]),
        lip_depth=extend(skin["lip_depth"]),
        lid=extend(skin["lid"]),
        lid_partner=np.concatenate([skin["lid_partner"], np.arange(n, total)]),
        ring=extend(skin["ring"], -1),
        mirror=mirror,
        landmarks=landmarks,
        lip_outer=loops["outer"],
        lip_inner=loops["inner"],
        lid_left=loops["left"],
        lid_right=loops["right"],
    )
