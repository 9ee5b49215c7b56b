"""How many frames of the demo corpus are drawn in a second, against one frame at a time in numpy.

    python benchmarks/demo_rendering.py            # prints the table
    python benchmarks/demo_rendering.py --write    # also keeps it in docs/performance/demo_rendering.md

A frame is everything: geometry from coefficients, normals, z-buffer, texture, nine-band light, highlights,
background, 2 x 2 antialiasing. Left out are what is done once a clip (speech, textures) and the encoding.

Baseline, as one writes it without a compiler: numpy arrays, a Python loop over the triangles with a
vectorised test inside each bounding box, then vectorised shading of all samples; one process.

Wall-clock rates depend on what else runs; CPU time a frame does not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import numpy as np
from document import keep

from talkgen.data.corpora.demo import Take, make_take
from talkgen.data.corpora.demo_casting import DemoSettings, plan_clips
from talkgen.face3d.coefficients import rotation
from talkgen.face3d.rasterizer import vertex_normals


def take_of(size: int) -> Take:
    settings = DemoSettings(size_pixels=size, seconds=4.0)
    take = make_take(plan_clips(settings)[1], settings)
    for index in range(3):
        take.frame(index)  # compile and warm up
    return take


def rate(job: tuple[int, float]) -> tuple[float, float]:
    """Frames a second and CPU milliseconds a frame of one process that draws for some seconds."""
    size, seconds = job
    take = take_of(size)
    frames, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        take.frame(frames % len(take.expressions))
        frames += 1
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return frames / wall, 1e3 * cpu / frames


def numpy_frame(take: Take, index: int) -> np.ndarray:
    """The same frame without compiled code."""
    actor, pose = take.actor, take.performance.pose
    renderer, scene = actor._renderer, actor._renderer.scene
    size, samples = actor.camera.size, actor.samples
    points = actor._rest.copy()
    points[actor._moving] += (take.expressions[index] @ actor._motion).reshape(-1, 3)
    head = points @ rotation(pose.angle[index]).T + pose.translation[index]
    chest = points @ rotation(pose.chest_angle[index]).T + pose.chest_translation[index]
    points = chest + actor._follow[:, None] * (head - chest)
    normals = vertex_normals(points, scene.triangles)
    screen = (actor.camera.project(points) + 0.5) * samples - 0.5
    depth = 1.0 / (actor.camera.distance - points[:, 2])
    side = size * samples
    nearest, ids = np.zeros((side, side)), np.full((side, side), -1)
    weights = np.zeros((side, side, 3))
    corners = screen[scene.triangles]
    low = np.clip(np.ceil(corners.min(1)), 0, side).astype(int)
    high = np.clip(np.floor(corners.max(1)) + 1, 0, side).astype(int)
    (ax, ay), (bx, by), (cx, cy) = np.moveaxis(corners, 0, -1)
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    drawn = (np.abs(area) > 1e-9) & ((area < 0) | renderer._two_sided) & (high > low).all(1)
    for t in np.flatnonzero(drawn):
        y, x = np.mgrid[low[t, 1] : high[t, 1], low[t, 0] : high[t, 0]]
        b0 = ((bx[t] - x) * (cy[t] - y) - (cx[t] - x) * (by[t] - y)) / area[t]
        b1 = ((cx[t] - x) * (ay[t] - y) - (ax[t] - x) * (cy[t] - y)) / area[t]
        b = np.stack([b0, b1, 1 - b0 - b1], -1)
        z = b @ depth[scene.triangles[t]]
        window = (slice(low[t, 1], high[t, 1]), slice(low[t, 0], high[t, 0]))
        seen = (b >= 0).all(-1) & (z > nearest[window])
        nearest[window][seen], ids[window][seen], weights[window][seen] = z[seen], t, b[seen]
    hit = ids >= 0
    faces, b = scene.triangles[ids[hit]], weights[hit]
    mix = lambda values: np.einsum("nk,nk...->n...", b, values[faces])  # noqa: E731
    n = mix(normals)
    n /= np.linalg.norm(n, axis=1, keepdims=True) + 1e-12
    x, y, z = n.T
    terms = np.stack([np.ones_like(x), x, y, z, x * y, y * z, z * z, x * z, x * x - y * y], 1)
    u, v = mix(scene.uv).astype(int).T
    albedo = mix(scene.colour) * scene.texture[v, u] / 128
    large = np.repeat(np.repeat(actor._backdrop, samples, 0), samples, 1)
    large[hit] = np.clip(terms @ actor._light.T, 0.04, None) * albedo * mix(scene.occlusion)[:, None]
    small = large.reshape(size, samples, size, samples, 3).mean((1, 3))
    return (np.clip(small, 0, 1) * 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    parser.add_argument("--seconds", type=float, default=3.0, help="of drawing a row")
    arguments = parser.parse_args()
    take = take_of(128)
    cpu = time.process_time()
    picture = numpy_frame(take, 10).astype(float)
    slow = time.process_time() - cpu
    agreement = float(np.abs(picture - take.frame(10)).mean())
    rows = [("numpy, one process (baseline)", 128, 1.0 / slow, 1e3 * slow)]
    for size in (128, 160, 256):
        speed, cost = rate((size, arguments.seconds))
        rows.append(("numba, one process", size, speed, cost))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        speeds = pool.map(rate, [(128, arguments.seconds)] * 2, chunksize=1)
    rows.append(
        ("numba, two processes", 128, sum(s for s, _ in speeds), float(np.mean([c for _, c in speeds])))
    )
    lines = [
        f"Both ways differ by {agreement:.1f} grey levels (the baseline draws no highlights and shares the "
        "normals). Cores x 1000 / CPU milliseconds is what an idle machine reaches.",
        "",
        "| what | pixels | frames a second | CPU ms a frame | CPU, times cheaper |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {what} | {size} | {speed:.1f} | {cost:.2f} | {1e3 * slow / cost:.0f} |"
        for what, size, speed, cost in rows
    ]
    table = "\n".join(lines) + "\n"
    print(table)
    if arguments.write:
        keep("demo_rendering", "Drawing the demo corpus", table)


if __name__ == "__main__":
    main()
