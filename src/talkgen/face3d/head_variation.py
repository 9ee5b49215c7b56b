"""How heads differ: 80 directions of shape and 80 of albedo, from named traits and smooth random fields.

The traits (jaw width, nose length, skin tone, …) are turned into orthogonal directions with falling
variance by a singular value decomposition, as in a model learned from scans; coefficients are standard
normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkgen.face3d import head_shape as shape
from talkgen.face3d.head_mesh import HeadMesh
from talkgen.face3d.head_motion import smooth_noise

Array = NDArray[np.float64]
COMPONENTS = 80


def _traits(p: Array) -> dict[str, Array]:
    """Named shape traits at one standard deviation: displacement fields (n, 3) at points ``p``."""
    x, y, z = p.T
    side = np.abs(x)
    sign = np.clip(x / 0.05, -1, 1)
    front = shape.smoothstep(z, 0.1, 0.5)

    def spot(x0: float, y0: float, sx: float, sy: float) -> Array:
        return front * (shape.bump(side, y, x0, y0, sx, sy) if x0 else shape.bump(x, y, 0.0, y0, sx, sy))

    def field(dx: Array | float = 0.0, dy: Array | float = 0.0, dz: Array | float = 0.0) -> Array:
        return np.stack(np.broadcast_arrays(dx, dy, dz, x)[:3], axis=1).astype(np.float64)

    eye_x, eye_y = side - shape.EYE_CENTRE[0], y - shape.EYE_CENTRE[1]
    eye = front * np.exp(-0.5 * (eye_x**2 / 0.20**2 + eye_y**2 / 0.11**2))
    jaw = shape.smoothstep(y, -0.15, -0.75)
    chin = (
        shape.smoothstep(y, -0.55, -0.95) * shape.smoothstep(y, -1.5, -1.05) * shape.smoothstep(z, 0.1, 0.8)
    )
    mouth = spot(0.0, -0.475, 0.24, 0.13)
    upper, lower = spot(0.0, -0.42, 0.20, 0.05), spot(0.0, -0.545, 0.20, 0.055)
    nose = spot(0.0, -0.05, 0.13, 0.20)
    tip = spot(0.0, -0.14, 0.11, 0.09)
    bridge = spot(0.0, 0.25, 0.09, 0.17)
    wings = spot(0.11, -0.20, 0.05, 0.07)
    ears = shape.smoothstep(side, 0.70, 0.80) * np.exp(-(((z - 0.03) / 0.3) ** 2 + ((y - 0.16) / 0.4) ** 2))
    return {
        "breadth": field(dx=0.038 * x),
        "height": field(dy=0.032 * (y - 0.2)),
        "depth": field(dz=0.030 * z),
        "jaw_breadth": field(dx=0.085 * x * jaw * shape.smoothstep(y, -1.6, -1.0)),
        "jaw_corner": field(
            dx=0.035 * sign * spot(0.55, -0.55, 0.15, 0.15)
            + 0.03 * sign * np.exp(-(((y + 0.5) / 0.2) ** 2)) * shape.smoothstep(side, 0.4, 0.6)
        ),
        "chin_length": field(dy=-0.050 * chin),
        "chin_forward": field(dz=0.045 * chin),
        "chin_breadth": field(
            dx=0.05 * sign * spot(0.15, -0.87, 0.14, 0.10), dz=0.015 * spot(0.17, -0.87, 0.10, 0.08)
        ),
        "cheek_bones": field(
            dx=0.025 * sign * spot(0.55, 0.10, 0.18, 0.14), dz=0.030 * spot(0.50, 0.10, 0.16, 0.12)
        ),
        "cheek_fullness": field(
            dx=0.055 * sign * shape.bump(side, y, 0.55, -0.32, 0.2, 0.22),
            dz=0.045 * spot(0.42, -0.30, 0.16, 0.20),
        ),
        "weight": field(
            dx=0.05 * x * shape.smoothstep(y, 0.2, -0.6),
            dz=0.06 * np.exp(-(((y + 1.05) / 0.12) ** 2)) * front,
        ),
        "forehead_height": field(dy=0.05 * shape.smoothstep(y, 0.65, 1.1)),
        "forehead_slope": field(dz=0.04 * spot(0.0, 0.85, 0.5, 0.25)),
        "brow_bone": field(dz=0.022 * spot(0.28, 0.52, 0.22, 0.08)),
        "brow_height": field(dy=0.025 * spot(0.30, 0.57, 0.25, 0.08)),
        "eye_spacing": field(dx=0.016 * sign * eye),
        "eye_height": field(dy=0.016 * eye),
        "eye_depth": field(dz=0.018 * eye),
        "eye_opening": field(dy=0.16 * eye_y * eye),
        "eye_length": field(dx=0.10 * eye_x * eye * np.sign(x)),
        "eye_tilt": field(dy=0.085 * eye_x * eye),
        "nose_length": field(dy=-0.032 * tip - 0.02 * wings),
        "nose_breadth": field(dx=0.030 * sign * wings + 0.010 * sign * tip),
        "nose_projection": field(dz=0.045 * tip),
        "nose_bridge": field(dz=0.028 * bridge),
        "nose_bridge_breadth": field(dx=0.016 * sign * spot(0.08, 0.15, 0.05, 0.18)),
        "nose_tip_up": field(dy=0.028 * tip, dz=-0.010 * tip),
        "nose_hump": field(dz=0.020 * spot(0.0, 0.10, 0.07, 0.08)),
        "nose_size": field(dx=0.08 * x * nose, dz=0.030 * nose),
        "mouth_breadth": field(dx=0.095 * x * mouth),
        "mouth_height": field(dy=0.024 * mouth),
        "mouth_forward": field(dz=0.026 * mouth),
        "upper_lip": field(dy=0.26 * (y + 0.475) * upper, dz=0.014 * upper),
        "lower_lip": field(dy=0.22 * (y + 0.475) * lower, dz=0.014 * lower),
        "philtrum": field(dy=-0.014 * spot(0.0, -0.40, 0.2, 0.08)),
        "mouth_corners": field(dy=0.014 * spot(0.24, -0.48, 0.08, 0.07)),
        "ear_size": field(dx=0.02 * sign * ears, dy=0.10 * (y - 0.16) * ears, dz=0.06 * (z - 0.03) * ears),
        "ear_angle": field(dx=0.03 * sign * ears * shape.smoothstep(z, 0.1, -0.15)),
        "neck": field(
            dx=0.08 * x * shape.smoothstep(y, -0.75, -1.05),
            dz=0.03 * shape.smoothstep(y, -0.95, -1.15) * front,
        ),
        "temples": field(dx=0.018 * sign * shape.bump(side, y, 0.75, 0.6, 0.2, 0.2)),
        "crooked_nose": field(dx=0.010 * tip),
        "crooked_mouth": field(dy=0.03 * x * mouth),
        "crooked_jaw": field(dx=0.012 * jaw),
        "uneven_brows": field(dy=0.009 * np.sign(x) * spot(0.30, 0.56, 0.2, 0.08)),
    }


def shape_basis(mesh: HeadMesh, seed: int) -> Array:
    """Orthogonal identity directions, (80, n, 3), each scaled to one standard deviation, in falling order."""
    random = np.random.default_rng(seed)
    p = mesh.sculpted
    fields = list(_traits(p).values())
    # what remains: soft individual relief over the whole head, even left to right but for a tenth
    cloud = p[mesh.of("skin")]
    while len(fields) < COMPONENTS:
        width = random.uniform(0.22, 0.5)
        centres = cloud[random.integers(len(cloud), size=5)]
        push = random.normal(size=(5, 3))
        field = np.zeros_like(p)
        for flip in (1.0, -1.0):
            c = centres * (flip, 1.0, 1.0)
            weight = 1.0 if flip > 0 else 0.8
            field += (
                weight
                * np.exp(-0.5 * ((p[:, None] - c[None]) ** 2).sum(-1) / width**2)
                @ (push * (flip, 1.0, 1.0))
            )
        fields.append(0.016 * field / np.sqrt((field**2).sum(1).mean()) * 0.8 ** ((len(fields) - 44) / 8))
    return _orthogonal(np.stack(fields))


def _orthogonal(fields: Array) -> Array:
    """The same Gaussian distribution written in orthogonal directions of falling variance."""
    flat = fields.reshape(len(fields), -1)
    _, values, directions = np.linalg.svd(flat, full_matrices=False)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])
    return (directions * (values * signs)[:, None]).reshape(fields.shape)


@np.errstate(all="raise", under="ignore")
def mean_albedo(mesh: HeadMesh) -> Array:
    """Albedo of the mean head, (n, 3) in [0, 1]."""
    x, y = mesh.plane.T
    n = len(x)
    skin = np.tile((0.745, 0.555, 0.465), (n, 1))
    front = shape.smoothstep(mesh.vertices[:, 2], 0.2, 0.6)[:, None]

    def tint(amount: Array, colour: tuple[float, float, float]) -> None:
        nonlocal skin
        a = np.clip(amount, 0, 1)[:, None] * front
        skin = skin * (1 - a) + np.array(colour) * a

    both = shape.both
    tint(0.30 * both(x, y, 0.40, -0.05, 0.16, 0.14), (0.78, 0.45, 0.40))  # cheeks
    tint(0.25 * shape.bump(x, y, 0, -0.15, 0.13, 0.10), (0.78, 0.46, 0.40))  # nose
    tint(0.20 * shape.bump(x, y, 0, -0.85, 0.15, 0.10), (0.76, 0.48, 0.42))  # chin
    tint(0.30 * both(x, y, 0.31, 0.24, 0.13, 0.05), (0.60, 0.40, 0.37))  # under the eyes
    tint(0.22 * both(x, y, 0.33, 0.43, 0.14, 0.045), (0.62, 0.42, 0.37))  # upper lids
    tint(
        0.35 * both(x, y, 0.30, 0.565, 0.16, 0.035), (0.35, 0.25, 0.20)
    )  # brows, blurred; hairs are in the texture
    tint(0.85 * both(x, y, 0.062, -0.268, 0.034, 0.016), (0.20, 0.09, 0.08))  # nostrils
    lips = (mesh.ring >= 10) & (mesh.ring <= 15)
    skin[lips] = np.where(mesh.lip_side[lips, None] > 0, (0.640, 0.345, 0.325), (0.690, 0.385, 0.365))
    skin[(mesh.ring == 15)] = skin[(mesh.ring == 15)] * 0.8 + np.array((0.72, 0.50, 0.43)) * 0.2
    skin[(mesh.ring >= 10) & (mesh.ring <= 12)] *= (0.72, 0.62, 0.62)
    rim = mesh.ring == 0
    skin[rim] = np.where(mesh.lid[rim, None] > 0, (0.10, 0.07, 0.06), (0.42, 0.26, 0.23))
    skin[(mesh.ring == 1) & (mesh.lid > 0)] = (0.25, 0.17, 0.15)
    ears = mesh.of("ears")
    skin[ears] = (0.74, 0.50, 0.43)
    skin[mesh.of("eyes")] = _eye_colours(mesh, (0.30, 0.20, 0.13))
    for part in ("teeth_upper", "teeth_lower"):
        ids = np.flatnonzero(mesh.of(part))
        columns = len(ids) // 4
        gap = (np.arange(len(ids)) % columns) % 4 == 0
        skin[ids] = np.where(gap[:, None], (0.66, 0.60, 0.54), (0.90, 0.87, 0.80))
    skin[mesh.of("tongue")] = (0.66, 0.31, 0.31)
    skin[mesh.of("mouth_bag")] = (0.26, 0.08, 0.08)
    return skin


def _eye_radius(mesh: HeadMesh) -> Array:
    """Distance of each vertex from the axis of its eyeball."""
    middle = np.where(mesh.vertices[:, :1] > 0, shape.EYE_CENTRE[:2], shape.EYE_CENTRE[:2] * (-1.0, 1.0))
    return np.linalg.norm(mesh.vertices[:, :2] - middle, axis=1)


def iris(mesh: HeadMesh) -> NDArray[np.bool_]:
    """Vertices of the coloured ring of both eyes."""
    radius = _eye_radius(mesh)
    return mesh.of("eyes") & (radius > shape.PUPIL_RADIUS + 0.001) & (radius < shape.IRIS_RADIUS + 1e-6)


def _eye_colours(mesh: HeadMesh, colour: tuple[float, float, float]) -> Array:
    """Pupil, iris with its dark rim, white."""
    balls = mesh.of("eyes")
    radius = _eye_radius(mesh)[balls]
    white = np.array((0.90, 0.88, 0.86)) - 0.12 * shape.smoothstep(radius, 0.08, 0.15)[:, None] * (
        0.2,
        1.0,
        1.0,
    )
    out = np.where(radius[:, None] < shape.IRIS_RADIUS + 1e-6, np.array(colour), white)
    out = np.where((np.abs(radius - shape.IRIS_RADIUS) < 1e-6)[:, None], np.array(colour) * 0.45, out)
    return np.where((radius < shape.PUPIL_RADIUS + 1e-6)[:, None], 0.03, out)


def albedo_basis(mesh: HeadMesh, seed: int) -> Array:
    """Orthogonal albedo directions, (80, n, 3), each scaled to one standard deviation, in falling order."""
    random = np.random.default_rng(seed)
    x, y = mesh.plane.T
    flesh = (mesh.of("skin", "ears") & ~((mesh.ring == 0) | ((mesh.ring == 1) & (mesh.lid > 0)))).astype(
        np.float64
    )
    lips = ((mesh.ring >= 12) & (mesh.ring <= 15)).astype(np.float64)
    front = shape.smoothstep(mesh.vertices[:, 2], 0.2, 0.6) * mesh.of("skin")
    eyes = iris(mesh).astype(np.float64)
    whites = mesh.of("eyes") & (_eye_radius(mesh) > shape.IRIS_RADIUS + 0.001)
    teeth = mesh.of("teeth_upper", "teeth_lower").astype(np.float64)
    both = shape.both
    beard = front * np.maximum(shape.bump(x, y, 0, -0.72, 0.34, 0.20), both(x, y, 0.45, -0.45, 0.12, 0.25))
    beard = np.maximum(beard, front * shape.bump(x, y, 0, -0.36, 0.16, 0.05)) * (1 - lips)

    def tone(weight: Array, colour: tuple[float, float, float]) -> Array:
        return weight[:, None] * np.array(colour)

    fields = [
        tone(flesh, (-0.105, -0.110, -0.105)),  # melanin
        tone(flesh, (0.012, -0.022, -0.020)),  # blood
        tone(flesh, (0.004, 0.010, -0.024)),  # carotene
        tone(flesh, (0.030, 0.026, 0.024)),
        tone(lips, (-0.020, -0.055, -0.040)),
        tone(lips, (-0.055, -0.035, -0.030)),
        tone(eyes, (0.060, 0.055, 0.045)),
        tone(eyes, (-0.055, 0.010, 0.085)),
        tone(eyes, (-0.010, 0.040, -0.020)),
        tone(front * both(x, y, 0.40, -0.05, 0.15, 0.13), (0.012, -0.035, -0.030)),
        tone(front * shape.bump(x, y, 0, -0.14, 0.12, 0.09), (0.008, -0.026, -0.022)),
        tone(front * both(x, y, 0.31, 0.24, 0.13, 0.05), (-0.035, -0.035, -0.028)),
        tone(front * both(x, y, 0.33, 0.43, 0.14, 0.05), (-0.030, -0.035, -0.025)),
        tone(front * both(x, y, 0.30, 0.565, 0.16, 0.04), (-0.045, -0.045, -0.040)),
        tone(beard, (-0.040, -0.034, -0.026)),
        tone(front * shape.bump(x, y, 0, 0.80, 0.4, 0.15), (0.018, 0.015, 0.012)),
        tone(mesh.of("ears").astype(np.float64), (0.015, -0.020, -0.018)),
        tone(whites.astype(np.float64), (-0.010, -0.015, -0.020)),
        tone(teeth, (-0.020, -0.028, -0.045)),
    ]
    skin = np.flatnonzero(flesh > 0)
    while len(fields) < COMPONENTS:
        field = np.zeros((len(x), 3))
        blotch = smooth_noise(mesh.vertices[skin], random, 8, random.uniform(0.08, 0.25))
        field[skin] = blotch[:, :1] + 0.22 * blotch[:, 1:2] * (
            -0.2,
            1.0,
            0.9,
        )  # light and dark, hardly a colour
        fields.append(0.0075 * 0.8 ** ((len(fields) - 19) / 12) * field * flesh[:, None])
    return _orthogonal(np.stack(fields))


def occlusion(mesh: HeadMesh) -> Array:
    """Share of the surrounding light that reaches each vertex, (n,) in (0, 1]: baked ambient occlusion."""
    x, y = mesh.plane.T
    z = mesh.vertices[:, 2]
    front = shape.smoothstep(z, 0.2, 0.6)
    both, bump = shape.both, shape.bump
    shade = np.ones(len(x))
    for amount in (
        0.16 * both(x, y, 0.19, 0.40, 0.07, 0.07),  # inner corners of the sockets
        0.12 * both(x, y, 0.33, 0.435, 0.13, 0.03),
        0.10 * both(x, y, 0.32, 0.25, 0.13, 0.03),
        0.30 * bump(x, y, 0, -0.305, 0.11, 0.035),  # under the nose
        0.10 * both(x, y, 0.20, -0.20, 0.03, 0.06),
        0.14 * both(x, y, 0.27, -0.35, 0.045, 0.09),  # folds
        0.24 * bump(x, y, 0, -0.640, 0.15, 0.03),  # under the lower lip
        0.12 * both(x, y, 0.25, -0.48, 0.03, 0.03),  # corners of the mouth
    ):
        shade *= 1 - amount * front
    skin = mesh.of("skin")
    under = shape.smoothstep(y, -0.90, -1.06)
    shade[skin] *= (1 - 0.40 * under * shape.smoothstep(y, -2.2, -1.2).clip(0.55))[skin]
    fold = np.array([0.45, 0.6, 0.85])
    for k in range(3):
        shade[mesh.ring == 10 + k] *= fold[k]
    rows = np.arange(8).repeat(20)
    bowl = np.array([0.75, 1.0, 1.0, 0.86, 0.90, 0.72, 0.50, 0.35])[rows]
    shade[mesh.of("ears")] = np.tile(bowl, 2)
    balls = mesh.of("eyes")
    shade[balls] = 1 - 0.50 * shape.smoothstep(mesh.vertices[balls, 1] - shape.EYE_CENTRE[1], 0.012, 0.060)
    shade[balls] *= 1 - 0.25 * shape.smoothstep(np.abs(np.abs(mesh.vertices[balls, 0]) - 0.325), 0.07, 0.15)
    across = np.abs(x)
    shade[mesh.of("teeth_upper")] = (0.88 - 0.9 * across)[mesh.of("teeth_upper")]
    shade[mesh.of("teeth_lower")] = (0.70 - 1.0 * across)[mesh.of("teeth_lower")]
    shade[mesh.of("tongue")] = np.clip(0.25 + 2.2 * (z - 0.80), 0.2, 0.75)[mesh.of("tongue")]
    shade[mesh.of("mouth_bag")] = 0.35
    return shade
