"""Coefficients as pictures of the bare mesh, so that motion can be judged without a trained renderer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from talkgen.face3d.coefficients import Coefficients, rotation
from talkgen.face3d.lighting import gamma_of_lights, key_direction, polynomial
from talkgen.face3d.morphable_model import MorphableModel
from talkgen.face3d.rasterizer import EYE, SKIN, TEETH, Camera, Renderer, Scene
from talkgen.video.writer import VideoWriter

_GREY = 0.62  # albedo of everything, where the model's own is not wanted
_BACKGROUND = 0.12
# Two lamps from the front, one on either side, so that folds beside mouth and eyes are seen.
_LAMPS = np.array([[-0.5, 0.5, 0.8], [0.7, 0.1, 0.5]])
_COLOURS = np.array([[0.55, 0.55, 0.55], [0.2, 0.2, 0.22]])


class MeshPreview:
    """Draws a morphable model as its coefficients say, lit from the front, before a dark ground.

    Keeps its buffers; not for two threads at once. What does not change from frame to frame (who it is) is
    computed once.

    Args:
        model: of the coefficients, with at most 80 + 64 + 80 of them (it is resized).
        camera: that they were fitted with (``face3d.fitting.crop_camera``); its size is that of the
            pictures.
        colours: the model's albedo; False: even grey, on which shape is seen best.
        samples: antialiasing by ``samples`` × ``samples`` samples a pixel.

    Example:
        ``picture = MeshPreview(open_morphable_model("demo"), Camera(size=256))(coefficients[0])``
    """

    def __init__(self, model: MorphableModel, camera: Camera, colours: bool = True, samples: int = 1) -> None:
        self.model = model.resized()
        self.camera = camera
        count = len(model.mean)
        albedo = np.asarray(model.mean_albedo, np.float32)
        material = np.full(len(model.triangles), SKIN, np.uint8)
        for name, kind in (("eyeballs", EYE), ("teeth", TEETH)):
            if name in model.regions:
                material[model.regions[name][model.triangles].all(1)] = kind
        scene = Scene(
            triangles=np.ascontiguousarray(model.triangles, np.int32),
            material=material,
            colour=albedo.clip(0.01, 1) if colours else np.full((count, 3), _GREY, np.float32),
            occlusion=np.ones(count, np.float32),
            cutout=np.ones(count, np.float32),
            uv=np.zeros((count, 2), np.float32),
            texture=np.full((2, 2, 3), 128, np.uint8),
        )
        self._draw = Renderer(scene, camera, samples)
        gamma = gamma_of_lights(_LAMPS, _COLOURS, np.full(3, 0.35))
        self._light = polynomial(gamma)
        self._key = np.asarray(key_direction(gamma), np.float32)
        self._background = np.full((camera.size, camera.size, 3), _BACKGROUND, np.float32)
        self._expressions = self.model.expression_basis.reshape(len(self.model.expression_basis), -1)
        self._identity: NDArray[np.floating] | None = None
        self._rest = np.empty(0, np.float32)

    def vertices(self, coefficients: NDArray[np.floating]) -> NDArray[np.float32]:
        """Vertices (n, 3) in camera space of one frame's coefficients (257,)."""
        parts = Coefficients.unpack(coefficients)
        if self._identity is None or not np.array_equal(self._identity, parts.identity):
            self._identity = parts.identity.copy()
            self._rest = self.model.vertices(parts.identity, np.zeros(64))
        moved = (parts.expression.astype(np.float32) @ self._expressions).reshape(-1, 3)
        turn = rotation(parts.angle).T.astype(np.float32)
        return (self._rest + moved) @ turn + parts.translation.astype(np.float32)

    def __call__(self, coefficients: NDArray[np.floating]) -> NDArray[np.uint8]:
        """The picture, uint8 (size, size, 3), of one frame's coefficients (257,)."""
        points = np.ascontiguousarray(self.vertices(coefficients), np.float32)
        return self._draw(points, self._light, self._key, self._background)

    def frames(self, coefficients: NDArray[np.floating]) -> Iterator[NDArray[np.uint8]]:
        """Pictures of a clip's coefficients (frames, 257), one at a time."""
        for row in coefficients:
            yield self(row)


def write_mesh(
    preview: MeshPreview,
    coefficients: NDArray[np.floating],
    out: str | Path,
    fps: float = 25.0,
    audio: str | Path | tuple[NDArray[np.float32], int] | None = None,
) -> Path:
    """A video of the mesh, ``.mp4``, with its sound.

    Raises:
        FileError: it cannot be written.
    """
    size = preview.camera.size
    with VideoWriter(out, fps, size, size, audio=audio, synthetic=True) as writer:
        for picture in preview.frames(coefficients):
            writer.write(picture)
    return Path(out)
