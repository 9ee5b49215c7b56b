"""A person who can be drawn: morphable head, hair, clothes, skin detail, light and background."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from talkgen.face3d import head_shape as shape
from talkgen.face3d import rasterizer
from talkgen.face3d.backdrop import paint_backdrop
from talkgen.face3d.clothes import bust_mesh, paint
from talkgen.face3d.coefficients import rotation
from talkgen.face3d.hair import HAIRCUTS, Haircut, hair_mesh, hairline, strands
from talkgen.face3d.head import build_head, face_weight
from talkgen.face3d.head_mesh import PARTS, head_mesh
from talkgen.face3d.head_variation import occlusion
from talkgen.face3d.lighting import key_direction, polynomial
from talkgen.face3d.rasterizer import Camera, Renderer, Scene
from talkgen.face3d.skin_detail import SkinDetail, paint_detail, texture_place

Float32 = NDArray[np.float32]

_MATERIAL_OF_PART = np.array(
    [
        rasterizer.SKIN,
        rasterizer.SKIN,
        rasterizer.EYE,
        rasterizer.TEETH,
        rasterizer.TEETH,
        rasterizer.MOUTH,
        rasterizer.MOUTH,
    ],
    dtype=np.uint8,
)
assert len(_MATERIAL_OF_PART) == len(PARTS)


@dataclass(frozen=True)
class Person:
    """Who someone is.

    Attributes:
        identity: (80,) shape coefficients.
        texture: (80,) albedo coefficients.
        detail: brows, freckles, beard, …
    """

    identity: NDArray[np.float64]
    texture: NDArray[np.float64]
    detail: SkinDetail


@dataclass(frozen=True)
class Styling:
    """How someone is dressed and filmed; a face swap leaves it alone.

    Attributes:
        haircut: a name of `hair.HAIRCUTS`, or ``"bald"``.
        hair_colour: albedo of the hair.
        clothes: a name of `clothes.STYLES`.
        clothes_colour, second_colour: garment, and its shirt, tie or stripes.
        backdrop: a name of `backdrop.KINDS`.
        gamma: (27,) light.
        seed: weave, strands, background.
        breadth: of the shoulders, relative.
    """

    haircut: str
    hair_colour: tuple[float, float, float]
    clothes: str
    clothes_colour: tuple[float, float, float]
    second_colour: tuple[float, float, float]
    backdrop: str
    gamma: NDArray[np.float64]
    seed: int
    breadth: float = 1.0


@dataclass(frozen=True)
class Pose:
    """Where head and chest are, frame by frame.

    Attributes:
        angle: (frames, 3) pitch, yaw, roll of the head, radians.
        translation: (frames, 3) of the head, decimetres.
        chest_angle: (frames, 3) and chest_translation: (frames, 3), the same of the chest.
    """

    angle: NDArray[np.float64]
    translation: NDArray[np.float64]
    chest_angle: NDArray[np.float64]
    chest_translation: NDArray[np.float64]


@dataclass
class Actor:
    """A person in a styling before a camera of a given size.

    Args:
        face: who the face is.
        styling: hair, clothes, light, background.
        camera: picture size and projection.
        skull: whose head carries the face and the hair; another person than ``face`` makes a perfect face
            swap: the face (weighted by `head.face_weight`) is the one's, the skull, ears and hairline are
            the other's, and the skin of both is the face's, so that no seam shows.
        samples: antialiasing.
    """

    face: Person
    styling: Styling
    camera: Camera
    skull: Person | None = None
    samples: int = 2
    _renderer: Renderer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        model, mesh = build_head(), head_mesh()
        styling = self.styling
        still = np.zeros(len(model.expression_basis))
        own = model.vertices(self.face.identity, still)
        if self.skull is not None:
            weight = face_weight(mesh)[:, None].astype(np.float32)
            own = own * weight + model.vertices(self.skull.identity, still) * (1 - weight)
        self._head = own.astype(np.float32)
        count = len(own)
        moving = np.flatnonzero(np.abs(model.expression_basis).max((0, 2)) > 1e-7)
        self._moving = moving
        self._motion = np.ascontiguousarray(model.expression_basis[:, moving]).reshape(
            len(model.expression_basis), -1
        )

        hair = _hair(styling.haircut)
        bust = bust_mesh(0.05 if styling.clothes in ("suit", "shirt", "hoodie") else 0.0, styling.breadth)
        shift = (own - model.mean).astype(np.float64)
        hair_points = hair["vertices"] + np.einsum("nk,nkd->nd", hair["weights"], shift[hair["neighbours"]])
        self._rest = np.concatenate([own, hair_points, bust["vertices"]]).astype(np.float32)
        self._head_count, self._hair_count = count, len(hair_points)
        neck = shape.smoothstep(self._rest[:, 1].astype(np.float64), -1.50, -0.95)
        neck[count : count + len(hair_points)] = shape.smoothstep(hair_points[:, 1], -1.6, -0.6)
        neck[count + len(hair_points) :] = 0.0
        self._follow = neck.astype(np.float32)
        self._work = np.empty(self._motion.shape[1], dtype=np.float32)
        self._posed = np.empty_like(self._rest)

        size = 256 if self.camera.size <= 200 else 512
        random = np.random.default_rng(styling.seed)
        skin_tile = paint_detail(self.face.detail, size) * 128
        woolly = 0.9 if styling.haircut == "afro" else 0.0
        hair_tile = np.repeat((strands(size, random, woolly) * 128)[..., None], 3, axis=2)
        cloth_tile = (
            paint(
                styling.clothes,
                size,
                np.array(styling.clothes_colour),
                np.array(styling.second_colour),
                random,
            )
            * 256
        )
        texture = (
            np.clip(np.concatenate([skin_tile, hair_tile, cloth_tile], axis=1), 0, 255)
            .round()
            .astype(np.uint8)
        )
        inner = size - 2.001
        uv = np.concatenate(
            [
                texture_place(mesh) * inner,
                hair["uv"] * inner + (size, 0),
                bust["uv"] * inner + (2 * size, 0),
            ]
        )
        shade = occlusion(mesh)
        if hair_points.size:
            skin = mesh.of("skin")
            below = hairline(HAIRCUTS[styling.haircut], mesh.angle) - mesh.plane[:, 1]
            hidden = 0.34 * np.exp(-np.clip(below, 0, None) / 0.07) * (mesh.vertices[:, 2] > 0.2)
            shade[skin] *= 1 - hidden[skin]
        albedo = model.albedo(self.face.texture)
        colour = np.concatenate(
            [
                albedo,
                np.tile(np.array(styling.hair_colour), (len(hair_points), 1)),
                np.full((len(bust["vertices"]), 3), 0.5),
            ]
        )
        triangles = np.concatenate(
            [model.triangles, hair["triangles"] + count, bust["triangles"] + count + len(hair_points)]
        )
        material = np.concatenate(
            [
                _MATERIAL_OF_PART[mesh.part[model.triangles[:, 0]]],
                np.full(len(hair["triangles"]), rasterizer.HAIR, dtype=np.uint8),
                np.full(len(bust["triangles"]), rasterizer.CLOTH, dtype=np.uint8),
            ]
        )
        scene = Scene(
            triangles=np.ascontiguousarray(triangles, dtype=np.int32),
            material=material.astype(np.uint8),
            colour=np.ascontiguousarray(colour, dtype=np.float32),
            occlusion=np.concatenate([shade, hair["occlusion"], bust["occlusion"]]).astype(np.float32),
            cutout=np.concatenate([np.ones(count), hair["cutout"], np.ones(len(bust["vertices"]))]).astype(
                np.float32
            ),
            uv=np.ascontiguousarray(uv, dtype=np.float32),
            texture=np.ascontiguousarray(texture),
        )
        self._renderer = Renderer(scene, self.camera, self.samples)
        self._light = polynomial(styling.gamma)
        self._key = key_direction(styling.gamma)
        self._backdrop = paint_backdrop(styling.backdrop, self.camera.size, styling.seed)

    def draw(self, expression: NDArray[np.floating], pose: Pose, frame: int) -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            expression: (64,) coefficients of this frame.
            pose: the whole performance's pose.
            frame: which of its frames.

        Returns:
            uint8 (size, size, 3) RGB.
        """
        rasterizer.deform_and_pose(
            self._rest,
            self._moving,
            self._motion,
            np.asarray(expression, dtype=np.float32),
            self._follow,
            rotation(pose.angle[frame]).astype(np.float32),
            pose.translation[frame].astype(np.float32),
            rotation(pose.chest_angle[frame]).astype(np.float32),
            pose.chest_translation[frame].astype(np.float32),
            self._work,
            self._posed,
        )
        return self._renderer(self._posed, self._light, self._key, self._backdrop)

    def landmarks(self, expressions: NDArray[np.floating], pose: Pose) -> Float32:
        """The 68 iBUG landmarks of all frames in pixels, (frames, 68, 2), for expressions (frames, 64)."""
        model = build_head()
        ids = model.landmark_vertices
        basis = model.expression_basis[:, ids].reshape(len(model.expression_basis), -1)
        points = self._rest[ids] + (np.asarray(expressions, dtype=np.float32) @ basis).reshape(-1, 68, 3)
        head = np.einsum("tnk,tdk->tnd", points, rotation(pose.angle)) + pose.translation[:, None]
        chest = (
            np.einsum("tnk,tdk->tnd", points, rotation(pose.chest_angle)) + pose.chest_translation[:, None]
        )
        return self.camera.project(chest + self._follow[ids, None] * (head - chest)).astype(np.float32)


@lru_cache(maxsize=16)
def _hair(name: str) -> dict[str, NDArray]:
    """Mesh of a cut, with the skull vertices that carry each of its vertices (four, weighted)."""
    if name == "bald":
        return {
            "vertices": np.zeros((0, 3)),
            "triangles": np.zeros((0, 3), dtype=np.int64),
            "uv": np.zeros((0, 2)),
            "cutout": np.zeros(0),
            "occlusion": np.zeros(0),
            "weights": np.zeros((0, 4)),
            "neighbours": np.zeros((0, 4), dtype=np.int64),
        }
    cut: Haircut = HAIRCUTS[name]
    hair = hair_mesh(cut)
    mesh = head_mesh()
    skull = np.flatnonzero(mesh.of("skin") & (mesh.plane[:, 1] > 0.0) & (mesh.ring < 0))
    distance = ((hair["vertices"][:, None] - mesh.vertices[None, skull]) ** 2).sum(-1)
    nearest = np.argsort(distance, axis=1)[:, :4]
    weights = 1 / (np.take_along_axis(distance, nearest, 1) + 1e-3)
    return hair | {"weights": weights / weights.sum(1, keepdims=True), "neighbours": skull[nearest]}
