"""Triangles to pixels on a CPU: z-buffer, barycentric weights, then shading; compiled by numba without the
GIL.

`rasterize` is the general part (which triangle, where in it, how deep). `Renderer` draws whole frames of a
scene: camera, normals, z-buffer with alpha test, nine-band light, highlights, background and antialiasing.
Pixels: the centre of the top-left pixel is (0, 0), x runs right, y down. Camera space: x right, y up, the
camera stands at ``z = distance`` and looks along -z (Deep3DFaceRecon's convention).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

SKIN, EYE, TEETH, MOUTH, HAIR, CLOTH = range(6)
"""Materials of triangles."""
EYE_RECESS = 0.03
"""Decimetres by which eyeballs stand back when depths are compared."""

# highlight strength, log2 of its exponent, strength of the glow at grazing angles
_MATERIAL = np.array(
    [
        (0.10, 3.0, 0.10),
        (0.75, 7.0, 0.0),
        (0.30, 5.0, 0.0),
        (0.10, 4.0, 0.0),
        (0.16, 4.0, 0.0),
        (0.02, 3.0, 0.04),
    ],
    dtype=np.float32,
)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        focal: focal length in image widths.
        distance: distance of the camera from the origin, decimetres.
        size: width and height of the picture in pixels.
    """

    focal: float = 2.55
    distance: float = 10.0
    size: int = 128

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels ``(..., 2)`` of points ``(..., 3)`` in camera space."""
        points = np.asarray(points, dtype=np.float64)
        scale = self.focal * self.size / (self.distance - points[..., 2])
        middle = 0.5 * (self.size - 1)
        return np.stack([middle + points[..., 0] * scale, middle - points[..., 1] * scale], axis=-1)


@dataclass(frozen=True)
class Raster:
    """What each pixel sees.

    Attributes:
        triangle: (height, width) int32, -1 where nothing is seen.
        barycentric: (height, width, 2) float32 weights of the first and second corner, on the screen.
        inverse_depth: (height, width) float32, 1 / distance from the camera; 0 where nothing is seen.
    """

    triangle: Int32
    barycentric: Float32
    inverse_depth: Float32


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fill(
    screen: Float32,
    triangles: Int32,
    two_sided: NDArray[np.bool_],
    recess: Float32,
    cutout: Float32,
    uv: Float32,
    texture: NDArray[np.uint8],
    ids: Int32,
    barycentric: Float32,
    depth: Float32,
) -> None:
    """Fill the z-buffer.

    ``screen`` is x, y in samples and 1 / distance, ``recess`` what to take off 1 / distance of each triangle,
    ``cutout`` the coverage of each vertex.
    """
    height, width = ids.shape
    for t in range(triangles.shape[0]):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, y0 = screen[i0, 0], screen[i0, 1]
        x1, y1 = screen[i1, 0], screen[i1, 1]
        x2, y2 = screen[i2, 0], screen[i2, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area >= 0.0 and not two_sided[t]:  # y runs down: triangles that face us turn clockwise
            continue
        if abs(area) < 1e-9:
            continue
        left = max(int(np.ceil(min(x0, x1, x2))), 0)
        right = min(int(np.floor(max(x0, x1, x2))), width - 1)
        top = max(int(np.ceil(min(y0, y1, y2))), 0)
        bottom = min(int(np.floor(max(y0, y1, y2))), height - 1)
        if left > right or top > bottom:
            continue
        inverse = 1.0 / area
        back = recess[t]
        z0, z1, z2 = screen[i0, 2] - back, screen[i1, 2] - back, screen[i2, 2] - back
        c0, c1, c2 = cutout[i0], cutout[i1], cutout[i2]
        solid = c0 >= 1.0 and c1 >= 1.0 and c2 >= 1.0
        # barycentric weights are linear in x: b0 = (start0 + step0 * x)
        step0 = (y1 - y2) * inverse
        step1 = (y2 - y0) * inverse
        for y in range(top, bottom + 1):
            b0 = ((x1 - left) * (y2 - y) - (x2 - left) * (y1 - y)) * inverse
            b1 = ((x2 - left) * (y0 - y) - (x0 - left) * (y2 - y)) * inverse
            for x in range(left, right + 1):
                b2 = 1.0 - b0 - b1
                if b0 >= -1e-6 and b1 >= -1e-6 and b2 >= -1e-6:
                    z = b0 * z0 + b1 * z1 + b2 * z2
                    if z > depth[y, x]:
                        seen = True
                        if not solid:
                            u = int(b0 * uv[i0, 0] + b1 * uv[i1, 0] + b2 * uv[i2, 0])
                            v = int(b0 * uv[i0, 1] + b1 * uv[i1, 1] + b2 * uv[i2, 1])
                            strand = texture[v, u, 1] * (1.0 / 255.0)
                            seen = b0 * c0 + b1 * c1 + b2 * c2 > strand
                        if seen:
                            depth[y, x] = z
                            ids[y, x] = t
                            barycentric[y, x, 0] = b0
                            barycentric[y, x, 1] = b1
                b0 += step0
                b1 += step1


@numba.njit(cache=True, nogil=True, fastmath=True)
def _normals(vertices: Float32, triangles: Int32, out: Float32) -> None:
    """Unit vertex normals, each the area-weighted mean of the triangles around it."""
    out[:] = 0.0
    for t in range(triangles.shape[0]):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = (
            vertices[i1, 0] - vertices[i0, 0],
            vertices[i1, 1] - vertices[i0, 1],
            vertices[i1, 2] - vertices[i0, 2],
        )
        bx, by, bz = (
            vertices[i2, 0] - vertices[i0, 0],
            vertices[i2, 1] - vertices[i0, 1],
            vertices[i2, 2] - vertices[i0, 2],
        )
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for i in (i0, i1, i2):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-20
        out[i, 0] /= length
        out[i, 1] /= length
        out[i, 2] /= length


@numba.njit(cache=True, nogil=True, fastmath=True)
def _shade(
    ids: Int32,
    barycentric: Float32,
    screen: Float32,
    triangles: Int32,
    material: NDArray[np.uint8],
    normals: Float32,
    colour: Float32,
    occlusion: Float32,
    uv: Float32,
    texture: NDArray[np.uint8],
    light: Float32,
    key: Float32,
    table: Float32,
    background: Float32,
    samples: int,
    out: NDArray[np.uint8],
) -> None:
    """Light every sample, put it before the background, average ``samples`` x ``samples`` of them into a
    pixel."""
    height, width = out.shape[0], out.shape[1]
    hx, hy, hz = key[0], key[1], key[2] + 1.0  # half way between light and viewer
    length = np.sqrt(hx * hx + hy * hy + hz * hz)
    hx, hy, hz = hx / length, hy / length, hz / length
    share = 1.0 / (samples * samples)
    for py in range(height):
        for px in range(width):
            red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for sy in range(samples):
                for sx in range(samples):
                    y, x = py * samples + sy, px * samples + sx
                    t = ids[y, x]
                    if t < 0:
                        red += background[py, px, 0]
                        green += background[py, px, 1]
                        blue += background[py, px, 2]
                        continue
                    i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                    b0 = barycentric[y, x, 0] * screen[i0, 2]
                    b1 = barycentric[y, x, 1] * screen[i1, 2]
                    b2 = (np.float32(1.0) - barycentric[y, x, 0] - barycentric[y, x, 1]) * screen[i2, 2]
                    whole = np.float32(1.0) / (b0 + b1 + b2)  # perspective correction
                    b0, b1, b2 = b0 * whole, b1 * whole, b2 * whole
                    nx = b0 * normals[i0, 0] + b1 * normals[i1, 0] + b2 * normals[i2, 0]
                    ny = b0 * normals[i0, 1] + b1 * normals[i1, 1] + b2 * normals[i2, 1]
                    nz = b0 * normals[i0, 2] + b1 * normals[i1, 2] + b2 * normals[i2, 2]
                    norm = np.float32(1.0) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-12))
                    if nz < 0.0 and material[t] == HAIR:
                        norm = -norm
                    nx, ny, nz = nx * norm, ny * norm, nz * norm
                    shadow = b0 * occlusion[i0] + b1 * occlusion[i1] + b2 * occlusion[i2]
                    u = b0 * uv[i0, 0] + b1 * uv[i1, 0] + b2 * uv[i2, 0]
                    v = b0 * uv[i0, 1] + b1 * uv[i1, 1] + b2 * uv[i2, 1]
                    ui, vi = int(u), int(v)
                    fu, fv = u - ui, v - vi
                    w00, w01 = (1 - fu) * (1 - fv), fu * (1 - fv)
                    w10, w11 = (1 - fu) * fv, fu * fv
                    m = material[t]
                    strength, power, rim = table[m, 0], table[m, 1], table[m, 2]
                    if m == HAIR:  # highlight along strands that run down the surface (Kajiya & Kay 1989)
                        tx, ty, tz = ny * nx, ny * ny - np.float32(1.0), ny * nz
                        tl = np.float32(1.0) / (np.sqrt(tx * tx + ty * ty + tz * tz) + np.float32(1e-6))
                        along = (tx * hx + ty * hy + tz * hz) * tl
                        shine = max(np.float32(1.0) - along * along, np.float32(0.0)) * max(
                            nz, np.float32(0.0)
                        )
                    else:
                        shine = max(nx * hx + ny * hy + nz * hz, np.float32(0.0))
                    for _ in range(int(power)):
                        shine *= shine
                    glow = np.float32(1.0) - max(nz, np.float32(0.0))
                    extra = (strength * shine + rim * glow * glow * glow) * shadow * shadow
                    xy, yz, zz, xz, dd = nx * ny, ny * nz, nz * nz, nx * nz, nx * nx - ny * ny
                    for c in range(3):
                        lit = (
                            light[c, 0]
                            + light[c, 1] * nx
                            + light[c, 2] * ny
                            + light[c, 3] * nz
                            + light[c, 4] * xy
                            + light[c, 5] * yz
                            + light[c, 6] * zz
                            + light[c, 7] * xz
                            + light[c, 8] * dd
                        )
                        lit = max(lit, np.float32(0.04))
                        detail = (
                            w00 * texture[vi, ui, c]
                            + w01 * texture[vi, ui + 1, c]
                            + w10 * texture[vi + 1, ui, c]
                            + w11 * texture[vi + 1, ui + 1, c]
                        ) * np.float32(1.0 / 128.0)
                        albedo = (b0 * colour[i0, c] + b1 * colour[i1, c] + b2 * colour[i2, c]) * detail
                        value = lit * (albedo * shadow + extra)
                        if value > 0.8:  # soft shoulder instead of clipping
                            value = np.float32(0.8) + np.float32(0.2) * (
                                np.float32(1.0) - np.exp(-(value - np.float32(0.8)) * np.float32(5.0))
                            )
                        if c == 0:
                            red += value
                        elif c == 1:
                            green += value
                        else:
                            blue += value
            out[py, px, 0] = int(min(max(float(red) * share * 255.0 + 0.5, 0.0), 255.0))
            out[py, px, 1] = int(min(max(float(green) * share * 255.0 + 0.5, 0.0), 255.0))
            out[py, px, 2] = int(min(max(float(blue) * share * 255.0 + 0.5, 0.0), 255.0))


@numba.njit(cache=True, nogil=True, fastmath=True)
def deform_and_pose(
    rest: Float32,
    moving: NDArray[np.int64],
    motion: Float32,
    expression: Float32,
    follow: Float32,
    head: Float32,
    head_shift: Float32,
    chest: Float32,
    chest_shift: Float32,
    work: Float32,
    out: Float32,
) -> None:
    """Vertices of one frame: rest + expression · motion, then a blend of two rigid motions (linear blend
    skinning).

    Written out instead of left to a matrix product, whose threads would fight with the other processes.

    Args:
        rest: (n, 3).
        moving: (m,) vertices that the expression moves; motion: (k, 3 m) by coefficient.
        expression: (k,).
        follow: (n,) share of the head's motion, the rest is the chest's.
        head, chest: (3, 3) rotations R, applied as R v; head_shift, chest_shift: (3,).
        work: (3 m,) scratch.
        out: (n, 3) result.
    """
    work[:] = 0.0
    for k in range(motion.shape[0]):
        amount = expression[k]
        for i in range(motion.shape[1]):
            work[i] += amount * motion[k, i]
    out[:] = rest
    for j in range(moving.shape[0]):
        i = moving[j]
        for c in range(3):
            out[i, c] += work[3 * j + c]
    for i in range(out.shape[0]):
        x, y, z = out[i, 0], out[i, 1], out[i, 2]
        share = follow[i]
        for c in range(3):
            with_head = head[c, 0] * x + head[c, 1] * y + head[c, 2] * z + head_shift[c]
            with_chest = chest[c, 0] * x + chest[c, 1] * y + chest[c, 2] * z + chest_shift[c]
            out[i, c] = with_chest + share * (with_head - with_chest)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _to_screen(
    points: Float32, focal: float, distance: float, size: int, samples: int, screen: Float32
) -> None:
    """Project to sample coordinates and inverse distance."""
    middle = 0.5 * (size - 1)
    for i in range(points.shape[0]):
        inverse = 1.0 / (distance - points[i, 2])
        x = middle + focal * size * points[i, 0] * inverse
        y = middle - focal * size * points[i, 1] * inverse
        screen[i, 0] = (x + 0.5) * samples - 0.5
        screen[i, 1] = (y + 0.5) * samples - 0.5
        screen[i, 2] = inverse


def vertex_normals(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> Float32:
    """Unit normals (n, 3) of a mesh, area-weighted."""
    points = np.ascontiguousarray(vertices, dtype=np.float32)
    out = np.empty_like(points)
    _normals(points, np.ascontiguousarray(triangles, dtype=np.int32), out)
    return out


def rasterize(
    points: NDArray[np.floating], triangles: NDArray[np.integer], camera: Camera, two_sided: bool = False
) -> Raster:
    """Find the nearest triangle of every pixel.

    Args:
        points: (n, 3) in camera space.
        triangles: (m, 3), counter-clockwise towards the viewer.
        camera: projection and picture size.
        two_sided: draw triangles that face away, too.
    """
    size = camera.size
    points32 = np.ascontiguousarray(points, dtype=np.float32)
    screen = np.empty_like(points32)
    _to_screen(points32, camera.focal, camera.distance, size, 1, screen)
    ids = np.full((size, size), -1, dtype=np.int32)
    weights = np.zeros((size, size, 2), dtype=np.float32)
    depth = np.zeros((size, size), dtype=np.float32)
    faces = np.ascontiguousarray(triangles, dtype=np.int32)
    _fill(
        screen,
        faces,
        np.full(len(faces), two_sided),
        np.zeros(len(faces), dtype=np.float32),
        np.ones(len(points32), dtype=np.float32),
        np.zeros((len(points32), 2), dtype=np.float32),
        np.zeros((2, 2, 3), dtype=np.uint8),
        ids,
        weights,
        depth,
    )
    return Raster(triangle=ids, barycentric=weights, inverse_depth=depth)


@dataclass(frozen=True)
class Scene:
    """Everything about a mesh that does not move.

    Attributes:
        triangles: (m, 3) int32.
        material: (m,) uint8, one of ``SKIN`` … ``CLOTH``; hair and cloth are drawn from both sides.
        colour: (n, 3) float32 albedo.
        occlusion: (n,) float32 share of the surrounding light that arrives.
        cutout: (n,) float32 coverage; below 1 the green channel of the texture decides where the surface
            ends.
        uv: (n, 2) float32 place in the texture, in texels.
        texture: (height, width, 3) uint8 detail that multiplies the albedo; 128 leaves it as it is.
    """

    triangles: Int32
    material: NDArray[np.uint8]
    colour: Float32
    occlusion: Float32
    cutout: Float32
    uv: Float32
    texture: NDArray[np.uint8]


class Renderer:
    """Draws frames of one scene; keeps its buffers between frames.

    Args:
        scene: mesh, colours and texture.
        camera: projection and picture size.
        samples: antialiasing by ``samples`` x ``samples`` samples a pixel.

    Example:
        ``picture = Renderer(scene, Camera(size=128))(points, light, key, background)``
    """

    def __init__(self, scene: Scene, camera: Camera, samples: int = 2) -> None:
        self.scene = scene
        self.camera = camera
        self.samples = samples
        n, side = len(scene.colour), camera.size * samples
        self._two_sided = (scene.material == HAIR) | (scene.material == CLOTH)
        # a turned eye bulges a little, because the model is linear: let the lids win over it
        self._recess = np.where(scene.material == EYE, EYE_RECESS / camera.distance**2, 0.0).astype(
            np.float32
        )
        self._normals = np.empty((n, 3), dtype=np.float32)
        self._screen = np.empty((n, 3), dtype=np.float32)
        self._ids = np.empty((side, side), dtype=np.int32)
        self._barycentric = np.zeros((side, side, 2), dtype=np.float32)
        self._depth = np.empty((side, side), dtype=np.float32)

    def __call__(
        self, points: Float32, light: Float32, key: Float32, background: Float32
    ) -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            points: (n, 3) float32 in camera space.
            light: (3, 9) from `lighting.polynomial`.
            key: (3,) unit direction towards the main light (for highlights).
            background: (size, size, 3) float32 in [0, 1].

        Returns:
            The picture, uint8 (size, size, 3) RGB.
        """
        scene, size = self.scene, self.camera.size
        out = np.empty((size, size, 3), dtype=np.uint8)
        self._ids.fill(-1)
        self._depth.fill(0.0)
        _normals(points, scene.triangles, self._normals)
        _to_screen(points, self.camera.focal, self.camera.distance, size, self.samples, self._screen)
        _fill(
            self._screen,
            scene.triangles,
            self._two_sided,
            self._recess,
            scene.cutout,
            scene.uv,
            scene.texture,
            self._ids,
            self._barycentric,
            self._depth,
        )
        _shade(
            self._ids,
            self._barycentric,
            self._screen,
            scene.triangles,
            scene.material,
            self._normals,
            scene.colour,
            scene.occlusion,
            scene.uv,
            scene.texture,
            light,
            key,
            _MATERIAL,
            background,
            self.samples,
            out,
        )
        return out
