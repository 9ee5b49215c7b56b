"""Frames a second of DisentTalk: the published renderer against ours, motion and rendering, the mesh.

    python benchmarks/disenttalk.py                  # some minutes on a CPU
    python benchmarks/disenttalk.py --quick          # without batches of the published size
    python benchmarks/disenttalk.py --device cuda
    python benchmarks/disenttalk.py --write          # also keeps the tables in docs/performance/disenttalk.md

Networks have random weights, which change no time. Baselines, of the same run: of rendering, PIRenderer as
published, restated here: every residual block of its editing net also computes a convolution and an AdaIN
whose results it throws away, and each window of 27 frames goes through the mapping net alone. Of the whole,
that renderer after motion by DDPM with all 400 steps and two branches. On a CPU times are of the processor,
with one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from disenttalk_motion import AUDIO_DIM, FRAMES, SIZES, WAYS
from document import keep
from omegaconf import OmegaConf
from timing import flops, seconds
from torch import Tensor, nn

from talkgen.configuration import config_folder
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.face3d.coefficients import EXPRESSION, SIZE, rotation
from talkgen.face3d.head import build_head
from talkgen.face3d.rasterizer import Camera, rasterize
from talkgen.face3d.torch_rasterizer import rasterize_batch
from talkgen.inference.mesh_preview import MeshPreview
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.noise import motion_schedule
from talkgen.models.disenttalk.sampling import Guidance, sample_window
from talkgen.models.pirender.pirenderer import PIRenderer


@dataclass(frozen=True)
class Rendered:
    """One way to render.

    Attributes:
        name: in the table.
        network: whose pictures are made.
        size: of the pictures, pixels.
        batch: pictures at a time.
        bf16: whether in bfloat16.
        windows: whether the mapping net sees window by window.
    """

    name: str
    network: PIRenderer
    size: int
    batch: int
    bf16: bool = False
    windows: bool = False


def as_published(network: PIRenderer) -> PIRenderer:
    """The published code's blocks: what comes first in them is computed and thrown away."""

    def forward(self: Any, x: Tensor, z: Tensor) -> Tensor:
        F.leaky_relu(self.norm1(self.conv1(x), z), 0.1)
        return x + self.norm2(self.conv2(x), z)

    for module in network.modules():
        if isinstance(getattr(module, "conv1", None), nn.Conv2d):
            module.forward = MethodType(forward, module)  # type: ignore[method-assign]
    return network


def ours(size: str) -> tuple[PIRenderer, int]:
    """The renderer of a size of the configs, and its pictures' size."""
    node: Any = OmegaConf.load(config_folder() / f"size/{size}.yaml").disenttalk_renderer
    names = [
        "descriptor", "warp_channels", "warp_most_channels", "warp_down", "warp_up", "edit_channels",
        "edit_most_channels", "edit_layers", "edit_blocks", "residual", "patch", "relative", "coarse_flow",
    ]  # fmt: skip
    network = PIRenderer(**{name: node[name] for name in names}, fix_res_block=True, align_corners=True)
    return network, int(node.image_size)


def rendering(way: Rendered, device: str) -> Callable[[], object]:
    """Makes ``batch`` pictures of one source."""
    network = way.network.to(device).eval()
    source = torch.rand(1, 3, way.size, way.size, device=device) * 2 - 1
    motion = torch.randn(1, way.batch + 26, 73, device=device)
    windows = motion[0].unfold(0, 27, 1).mT.contiguous()
    own = motion[:, 13]

    @torch.no_grad()
    def call() -> None:
        precise = torch.autocast(torch.device(device).type, torch.bfloat16) if way.bf16 else nullcontext()
        with precise:
            if way.windows:
                network.render(source, network.describe(windows, own.expand(way.batch, -1))[:, 0])
            else:
                network.render(source, network.describe(motion, own)[0])

    return call


def rendering_table(device: str, quick: bool) -> tuple[list[str], float, float]:
    """Lines, and seconds a frame of the published and of our renderer at the published size."""
    published, lean = as_published(PIRenderer(fix_res_block=True)), PIRenderer()
    small, small_size = ours("demo")
    ways = [
        Rendered("as published", published, 256, 1, windows=True),
        Rendered("without what is thrown away", lean, 256, 1),
        Rendered("the same in bfloat16", lean, 256, 1, bf16=True),
    ]
    if not quick:
        ways += [Rendered("without what is thrown away", lean, 256, batch) for batch in (4, 16)]
        ways.append(Rendered("the same in bfloat16", lean, 256, 16, bf16=True))
    ways += [Rendered("demo size", small, small_size, batch) for batch in (1, 16)]
    ways.append(Rendered("demo size in bfloat16", small, small_size, 16, bf16=True))
    lines = [
        "| renderer | pixels | M parameters | GMAC a frame | batch | frames/s | against published |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    base = 0.0
    times: dict[str, float] = {}
    for way in ways:
        call = rendering(way, device)
        time = seconds(call, 2 if way.size == 256 else 5, device) / way.batch
        base = base or time
        times.setdefault(way.name, time)
        macs = flops(call) / 2e9 / way.batch
        parameters = sum(p.numel() for p in way.network.parameters()) / 1e6
        lines.append(
            f"| {way.name} | {way.size} | {parameters:.1f} | {macs:.2f} | {way.batch} | {1 / time:.2f} | "
            f"{base / time:.2f} × |"
        )
    return lines, base, min(times["without what is thrown away"], times["the same in bfloat16"])


def motion_seconds(device: str) -> dict[str, float]:
    """Seconds a frame of ways to generate motion, at demo size."""
    size: Any = OmegaConf.load(config_folder() / "size/demo.yaml").disenttalk_motion
    denoiser = MotionDenoiser(
        SIZES, AUDIO_DIM, int(size.width), int(size.blocks), int(size.heads), int(size.audio_layers)
    )
    denoiser = denoiser.to(device).eval()
    diffusion = GaussianDiffusion(motion_schedule(), "x0", learned_range=False).to(device)
    heard = torch.randn(1, FRAMES, AUDIO_DIM, device=device)
    found = {}
    for name, (sampler, scale) in WAYS.items():
        with torch.no_grad():
            found[name] = seconds(
                lambda s=sampler, g=scale: sample_window(denoiser, diffusion, s, heard, Guidance(g)),  # type: ignore[misc]
                1 if "400" in name else 3,
                device,
            )
    return {name: time / FRAMES for name, time in found.items()}


def together_table(motion: dict[str, float], renderers: dict[str, float]) -> list[str]:
    """Frames a second of motion, of rendering, and of both one after the other."""
    lines = ["| motion | renderer | motion frames/s | rendering frames/s | together | against the first |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    base = 0.0
    for way, time in motion.items():
        for renderer, each in renderers.items():
            base = base or time + each
            lines.append(
                f"| {way} | {renderer} | {1 / time:.0f} | {1 / each:.2f} | {1 / (time + each):.2f} | "
                f"{base / (time + each):.2f} × |"
            )
    return lines


def mesh_table(device: str) -> list[str]:
    """The mesh: finding triangles by compiled code and in PyTorch, and whole pictures."""
    head, random = build_head(), np.random.default_rng(0)
    coefficients = np.zeros((8, SIZE), np.float32)
    coefficients[:, EXPRESSION] = random.normal(size=(8, 64)) * head.expression_deviation
    lines = [
        "| mesh of 8066 triangles | pixels | batch | frames/s | against numba |",
        "|---|---:|---:|---:|---:|",
    ]
    for size in (128, 256):
        camera = Camera(size=size)
        preview, smooth = MeshPreview(head, camera), MeshPreview(head, camera, samples=2)
        points = np.stack([preview.vertices(row) @ rotation(np.full(3, 0.1)).T for row in coefficients])
        points = points.astype(np.float32)
        compiled = seconds(lambda p=points[0], c=camera: rasterize(p, head.triangles, c), 20)  # type: ignore[misc]
        batch = torch.from_numpy(points).to(device)
        faces = torch.from_numpy(head.triangles).long().to(device)
        torch_time = seconds(lambda p=batch, f=faces, c=camera: rasterize_batch(p, f, c), 3, device) / 8  # type: ignore[misc]
        rows = [
            ("triangles, numba (baseline)", 1, compiled),
            (f"triangles, PyTorch on {device}", 8, torch_time),
            ("whole picture", 1, seconds(lambda p=preview: p(coefficients[1]), 20)),  # type: ignore[misc]
            ("whole picture, 2 × 2 samples", 1, seconds(lambda p=smooth: p(coefficients[1]), 20)),  # type: ignore[misc]
        ]
        lines += [
            f"| {name} | {size} | {count} | {1 / time:.0f} | {compiled / time:.2f} × |"
            for name, count, time in rows
        ]
    return lines


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table, published, best = rendering_table(given.device, given.quick)
    motion = motion_seconds(given.device)
    text = [
        "## Rendering", "", *table, "",
        "## Motion and rendering", "",
        "Motion of demo size in windows of 100 frames; pictures at 256 pixels, one at a time.", "",
        *together_table(motion, {"as published": published, "best of ours": best}), "",
        "## The mesh", "", *mesh_table(given.device),
    ]  # fmt: skip
    print("\n".join(text))
    if given.write:
        keep("disenttalk", "DisentTalk in use", "\n".join(text), device=given.device)


if __name__ == "__main__":
    main()
