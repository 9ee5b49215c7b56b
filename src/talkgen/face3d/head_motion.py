"""What a face can do: 64 linear generators as displacement fields on the head mesh.

Sixteen move the lips, eight the eyes, six the brows; the rest are other muscles and small smooth
deformations that a model learned from scans would hold, too. A generator at 1 is a full movement (mouth
wide open, lid closed).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkgen.face3d import head_shape as shape
from talkgen.face3d.head_mesh import HeadMesh, mouth_line

Array = NDArray[np.float64]

LIP_GENERATORS = (
    "jaw_open",
    "close_lips",
    "wide",
    "pucker",
    "funnel",
    "press",
    "upper_raise",
    "lower_depress",
    "corner_up_left",
    "corner_up_right",
    "corner_down",
    "lower_bite",
    "tongue_up",
    "tongue_out",
    "jaw_side",
    "mouth_shift",
)
EYE_GENERATORS = (
    "blink_left",
    "blink_right",
    "wide_left",
    "wide_right",
    "squint_left",
    "squint_right",
    "gaze_yaw",
    "gaze_pitch",
)
BROW_GENERATORS = (
    "brow_inner_up",
    "brow_outer_up_left",
    "brow_outer_up_right",
    "brow_down_left",
    "brow_down_right",
    "brow_knit",
)
OTHER_GENERATORS = (
    "nose_wrinkle",
    "nostril_flare",
    "cheek_puff",
    "cheek_raise",
    "chin_raise",
    *(f"soft_{i:02d}" for i in range(29)),
)
GENERATORS = LIP_GENERATORS + EYE_GENERATORS + BROW_GENERATORS + OTHER_GENERATORS

JAW_ANGLE = 0.30
"""Radians that the jaw turns when ``jaw_open`` is 1."""
GAZE_ANGLE = np.radians(18.0)
"""Radians that the eyes turn when a gaze generator is 1."""


class _Fields:
    """Places on the mesh in the words of the sculptor, shared by the generators."""

    def __init__(self, mesh: HeadMesh, seed: int) -> None:
        self.mesh = mesh
        self.skin = mesh.of("skin")
        self.x, self.height = mesh.plane.T
        self.z = mesh.vertices[:, 2]
        self.front = self.skin * shape.smoothstep(self.z, 0.25, 0.55)
        self.line = mouth_line(self.x)
        self.random = np.random.default_rng(seed)
        above = np.where(mesh.lip_side != 0, mesh.lip_side > 0, self.height > self.line)
        corner = (mesh.ring >= 10) & (mesh.lip_side == 0)
        self.upper = np.where(corner, 0.5, above * 1.0)
        self.lower = 1.0 - self.upper

    def spot(self, x: float, y: float, sx: float, sy: float) -> Array:
        """Gaussian on the front of the skin."""
        return self.front * shape.bump(self.x, self.height, x, y, sx, sy)

    def lip(self, upper: bool, reach: float = 0.09) -> Array:
        """1 on one lip, falling to 0 at its corners and within ``reach`` beyond its contour."""
        side = self.upper if upper else self.lower
        away = np.maximum(np.abs(self.height - self.line) - (0.07 if upper else 0.09), 0.0)
        middle = np.clip(1 - (np.abs(self.x) / 0.275) ** 2, 0, None) ** 0.9
        return self.front * side * np.exp(-((away / reach) ** 2)) * middle

    def mouth(self, reach: float = 0.13) -> Array:
        """1 over the mouth, fading around it."""
        away = np.maximum(np.abs(self.height - self.line) - 0.09, 0.0)
        beyond = np.maximum(np.abs(self.x) - 0.25, 0.0)
        return self.front * np.exp(-((away / reach) ** 2) - (beyond / reach) ** 2)

    def jaw(self) -> Array:
        """Share of the jaw's turn that each vertex takes."""
        mesh = self.mesh
        fall = shape.smoothstep(self.height, -0.28, -0.64) * shape.smoothstep(self.height, -1.40, -1.02)
        side = np.abs(self.x)
        over = fall * shape.smoothstep(side, 0.10, 0.36)
        under = 1.0 + (np.maximum(fall, 0.48) - 1.0) * shape.smoothstep(side, 0.10, 0.25)
        under *= shape.smoothstep(self.height, -1.40, -1.02)
        near = shape.smoothstep(side, 0.44, 0.26) * (self.height < -0.2)
        weight = fall * (1 - near) + near * np.where(
            self.upper > 0.75, over, np.where(self.upper < 0.25, np.maximum(under, fall), 0.46)
        )
        weight = weight * shape.smoothstep(self.z, -0.1, 0.25) * self.skin
        weight = np.where(mesh.of("teeth_lower"), 1.0, weight)
        weight = np.where(mesh.of("tongue"), 0.92, weight)
        bag = shape.smoothstep(mesh.sculpted[:, 1], shape.MOUTH_HEIGHT + 0.10, shape.MOUTH_HEIGHT - 0.15)
        return np.where(mesh.of("mouth_bag"), bag, weight)


def _lips(f: _Fields) -> dict[str, Array]:
    """Fields of the lip generators."""
    mesh = f.mesh
    n = len(mesh.vertices)
    out = {name: np.zeros((n, 3)) for name in LIP_GENERATORS}
    x, up, down, mouth, jaw = f.x, f.lip(True), f.lip(False), f.mouth(), f.jaw()
    relative = mesh.vertices - shape.JAW_HINGE
    out["jaw_open"][:, 1] = -JAW_ANGLE * relative[:, 2] * jaw
    out["jaw_open"][:, 2] = JAW_ANGLE * relative[:, 1] * jaw
    out["jaw_open"][:, 0] = -0.10 * x * mouth  # cheeks pull the corners in
    out["close_lips"][:, 1] = 0.205 * down - 0.075 * up
    out["close_lips"][:, 2] = 0.02 * (up + down)

    slide = np.clip(x / 0.25, -1, 1)
    out["wide"][:, 0] = 0.085 * slide * mouth
    out["wide"][:, 1] = 0.012 * np.abs(slide) ** 2 * mouth - 0.25 * (f.height - f.line) * mouth * 0.6
    out["wide"][:, 2] = -0.045 * np.abs(slide) ** 2 * mouth - 0.012 * mouth
    out["pucker"][:, 0] = -0.105 * slide * mouth
    out["pucker"][:, 2] = 0.085 * mouth * (1 - 0.5 * np.abs(slide)) + 0.02 * np.abs(slide) * mouth
    out["pucker"][:, 1] = 0.20 * (f.height - f.line) * mouth
    out["funnel"][:, 0] = -0.070 * slide * mouth
    out["funnel"][:, 1] = 0.055 * up - 0.065 * down
    out["funnel"][:, 2] = 0.080 * (up + down)

    red = f.skin * np.clip(mesh.lip_depth + (mesh.ring == 15) * 1.0, 0, 1) * (mesh.ring >= 12)
    out["press"][:, 1] = -0.48 * (f.height - f.line) * red
    out["press"][:, 2] = -0.030 * red * np.clip(1 - (x / 0.26) ** 2, 0, None)
    out["upper_raise"][:, 1] = (
        0.070 * up + 0.02 * f.spot(0.12, -0.2, 0.08, 0.08) + 0.02 * f.spot(-0.12, -0.2, 0.08, 0.08)
    )
    out["upper_raise"][:, 2] = 0.012 * up
    out["lower_depress"][:, 1] = -0.085 * down
    out["lower_depress"][:, 2] = 0.010 * down
    for name, sign in (("corner_up_left", 1.0), ("corner_up_right", -1.0)):
        corner = f.spot(sign * 0.25, -0.46, 0.10, 0.10)
        cheek = f.spot(sign * 0.40, -0.10, 0.14, 0.13)
        fold = f.spot(sign * 0.32, -0.32, 0.06, 0.10)
        out[name] += np.stack(
            [
                sign * 0.050 * corner,
                0.075 * corner + 0.035 * cheek,
                -0.03 * corner + 0.035 * cheek - 0.012 * fold,
            ],
            1,
        )
    both_corners = f.spot(0.25, -0.48, 0.08, 0.08) + f.spot(-0.25, -0.48, 0.08, 0.08)
    out["corner_down"][:, 1] = -0.065 * both_corners
    out["corner_down"][:, 0] = 0.015 * np.sign(x) * both_corners
    middle = np.clip(1 - (np.abs(x) / 0.24) ** 2, 0, None)
    out["lower_bite"][:, 1] = 0.060 * down * middle + 0.018 * up
    out["lower_bite"][:, 2] = -0.055 * down * middle

    tongue = mesh.of("tongue")
    tip = tongue * shape.smoothstep(f.z, 0.82, 0.96)
    out["tongue_up"][:, 1] = 0.085 * tip + 0.03 * tongue
    out["tongue_up"][:, 2] = 0.05 * tip
    out["tongue_out"][:, 1] = 0.045 * tip + 0.02 * tongue
    out["tongue_out"][:, 2] = 0.13 * tongue
    out["jaw_side"][:, 0] = 0.07 * jaw
    out["mouth_shift"][:, 0] = 0.06 * mouth
    out["mouth_shift"][:, 1] = 0.02 * mouth * slide
    return out


def _eyes(f: _Fields) -> dict[str, Array]:
    """Fields of the eye generators; the left eye is computed, the right one mirrored."""
    mesh = f.mesh
    n = len(mesh.vertices)
    left = np.sign(mesh.vertices[:, 0]) > 0
    centre = shape.EYE_CENTRE
    around = (mesh.ring >= 0) & (mesh.ring < 10) & left
    ids = np.flatnonzero(around)
    rim = np.flatnonzero(around & (mesh.ring == 0))
    # the rings have the same columns: the rim vertex of a ring vertex has the same rank in its ring
    columns = len(rim)
    rim_of = np.empty(n, dtype=np.int64)
    for k in range(5):
        members = np.flatnonzero(around & (mesh.ring == k))
        rim_of[members] = rim[np.arange(columns)]
    gap = np.zeros((n, 3))
    gap[rim] = mesh.vertices[mesh.lid_partner[rim]] - mesh.vertices[rim]

    def on_ball(points: Array, radius: Array) -> Array:
        return centre[2] + np.sqrt(np.maximum(radius**2 - ((points[:, :2] - centre[:2]) ** 2).sum(1), 0.004))

    def lids(upper_share: float, lower_share: float) -> Array:
        """Lids move by shares of the gap between the rims, along the eyeball."""
        field = np.zeros((n, 3))
        share = np.where(mesh.lid[ids] > 0, upper_share, lower_share) * np.abs(mesh.lid[ids])
        start = mesh.vertices[ids]
        end = start + gap[rim_of[ids]] * share[:, None]
        ring = mesh.ring[ids]
        radius = shape.EYE_RADIUS + np.array([0.016, 0.022, 0.023, 0.022, 0.022])[ring]
        hold = np.array([1.0, 0.97, 0.80, 0.40, 0.10])[ring]
        field[ids, :2] = (end - start)[:, :2]
        field[ids, 2] = (on_ball(end, radius) - on_ball(start, radius)) * hold
        return field

    def mirrored(field: Array) -> Array:
        return field[mesh.mirror] * (-1.0, 1.0, 1.0)

    brow = f.spot(0.32, 0.55, 0.16, 0.06)
    bag = f.spot(0.33, 0.20, 0.14, 0.05)
    blink = lids(1.02, 0.14)
    blink[:, 1] -= 0.008 * brow
    wide = lids(-0.28, -0.10)
    wide[:, 1] += 0.015 * brow
    squint = lids(0.12, 0.22)
    squint[:, 1] += 0.020 * bag - 0.012 * brow
    squint[:, 2] += 0.010 * bag
    out = {
        "blink_left": blink,
        "blink_right": mirrored(blink),
        "wide_left": wide,
        "wide_right": mirrored(wide),
        "squint_left": squint,
        "squint_right": mirrored(squint),
    }
    balls = mesh.of("eyes")
    middle = np.where(mesh.vertices[:, :1] > 0, centre, centre * (-1.0, 1.0, 1.0))
    arm = (mesh.vertices - middle) * balls[:, None]
    yaw, pitch = np.zeros((n, 3)), np.zeros((n, 3))
    yaw[:, 0], yaw[:, 2] = GAZE_ANGLE * arm[:, 2], -GAZE_ANGLE * arm[:, 0]  # positive: to the subject's left
    pitch[:, 1], pitch[:, 2] = GAZE_ANGLE * arm[:, 2], -GAZE_ANGLE * arm[:, 1]  # positive: up
    follow = lids(-0.22, -0.06)
    out["gaze_yaw"] = yaw
    out["gaze_pitch"] = pitch + follow + mirrored(follow)
    return out


def _brows(f: _Fields) -> dict[str, Array]:
    """Fields of the brow generators."""
    n = len(f.x)
    out = {name: np.zeros((n, 3)) for name in BROW_GENERATORS}
    inner = f.spot(0.14, 0.57, 0.10, 0.10) + f.spot(-0.14, 0.57, 0.10, 0.10)
    forehead = f.spot(0.0, 0.78, 0.25, 0.10)
    out["brow_inner_up"][:, 1] = 0.080 * inner + 0.03 * forehead
    out["brow_inner_up"][:, 2] = 0.008 * forehead
    for side, sign in (("left", 1.0), ("right", -1.0)):
        outer = f.spot(sign * 0.42, 0.58, 0.14, 0.10)
        whole = f.spot(sign * 0.28, 0.55, 0.20, 0.085)
        out[f"brow_outer_up_{side}"][:, 1] = 0.075 * outer + 0.02 * whole
        out[f"brow_down_{side}"][:, 1] = -0.055 * whole
        out[f"brow_down_{side}"][:, 2] = 0.010 * whole
    out["brow_knit"][:, 0] = -0.030 * np.sign(f.x) * np.minimum(np.abs(f.x) / 0.08, 1.0) * inner
    out["brow_knit"][:, 1] = -0.015 * inner
    out["brow_knit"][:, 2] = 0.012 * f.spot(0.0, 0.52, 0.06, 0.07)
    return out


def smooth_noise(points: Array, random: np.random.Generator, waves: int, width: float) -> Array:
    """A smooth random vector field (…, 3) of unit root mean square: Gaussians at random points."""
    centres = points[random.integers(len(points), size=waves)]
    push = random.normal(size=(waves, 3)) * (0.6, 1.0, 1.0)
    distance = ((points[:, None] - centres[None]) ** 2).sum(-1)
    field = np.exp(-0.5 * distance / width**2) @ push
    return field / np.sqrt((field**2).sum(1).mean())


def _others(f: _Fields) -> dict[str, Array]:
    """Other muscles, and 29 small deformations without a name."""
    mesh = f.mesh
    n = len(f.x)
    out = {name: np.zeros((n, 3)) for name in OTHER_GENERATORS}
    wings = f.spot(0.12, -0.15, 0.07, 0.09) + f.spot(-0.12, -0.15, 0.07, 0.09)
    cheeks = f.spot(0.40, -0.33, 0.15, 0.16) + f.spot(-0.40, -0.33, 0.15, 0.16)
    apples = f.spot(0.38, 0.05, 0.15, 0.11) + f.spot(-0.38, 0.05, 0.15, 0.11)
    out["nose_wrinkle"][:, 1] = 0.035 * wings
    out["nostril_flare"][:, 0] = 0.018 * np.sign(f.x) * wings
    out["cheek_puff"][:, 2] = 0.05 * cheeks
    out["cheek_puff"][:, 0] = 0.05 * np.sign(f.x) * cheeks
    out["cheek_raise"][:, 1] = 0.035 * apples
    out["cheek_raise"][:, 2] = 0.020 * apples
    chin = f.spot(0.0, -0.80, 0.15, 0.12)
    out["chin_raise"][:, 1] = 0.035 * chin
    out["chin_raise"][:, 2] = 0.015 * chin
    face = f.front * shape.smoothstep(f.height, -1.3, -0.95) * shape.smoothstep(f.height, 1.0, 0.8)
    face *= shape.smoothstep(np.abs(f.x), 0.70, 0.5)
    # eyeballs, lids and lips are spared: their parts must not come apart
    face *= 1 - np.maximum(f.spot(0.325, 0.345, 0.17, 0.10), f.spot(-0.325, 0.345, 0.17, 0.10))
    face *= 1 - f.mouth()
    inside = np.flatnonzero(face > 0)
    for i in range(29):
        field = np.zeros((n, 3))
        field[inside] = smooth_noise(mesh.vertices[inside], f.random, 6, 0.16)
        out[f"soft_{i:02d}"] = 0.012 * field * face[:, None]
    return out


def generator_fields(mesh: HeadMesh, seed: int) -> Array:
    """Displacements of all generators in the order of ``GENERATORS``, (64, n, 3) decimetres."""
    fields = _Fields(mesh, seed)
    named = _lips(fields) | _eyes(fields) | _brows(fields) | _others(fields)
    return np.stack([named[name] for name in GENERATORS])
