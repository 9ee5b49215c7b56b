"""What the cache of codes saves: batches with it and with pictures that are encoded in every step.

    python benchmarks/latents.py                # demo size, some seconds
    python benchmarks/latents.py --paper        # paper size (320 px, f16) as well, minutes
    python benchmarks/latents.py --write        # also keeps the tables in docs/performance/latents.md

Both ways read the same windows of the same store and use the same VQGAN in the same batches; without the
cache they decode and encode the pictures of every batch. Weights are random, which changes no time. Times
are processor times of one thread (the least of some runs), so that what else runs on the machine counts
little.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timing
import torch
from document import keep
from hydra import compose, initialize_config_dir
from torch import Tensor

from talkgen.configuration import build, config_folder
from talkgen.data.clip import Clip
from talkgen.data.dataset import ClipWindows, collate
from talkgen.data.latent_data import LatentWindows
from talkgen.data.latents import LatentCache
from talkgen.data.store import Store, StoreWriter
from talkgen.data.swap_pairs import SwapPairs
from talkgen.data.windows import WindowSettings, resize_frames, to_model_range
from talkgen.models.vqgan.vqgan import VQGAN

STORED = {"demo": 128, "paper": 320}  # pixels
REPEATS = {"demo": 4, "paper": 1}
BATCH = {"demo": 8, "paper": 1}
CLIPS, FRAMES = 6, 40
seconds = partial(timing.seconds, warm=False)


def make_store(root: Path, size: int) -> Store:
    """Clips of blurred noise, which JPEG codes like a face."""
    rng = np.random.default_rng(0)
    with StoreWriter(root) as writer:
        for number in range(CLIPS):
            frames = np.stack(
                [
                    cv2.GaussianBlur(rng.integers(0, 256, (size, size, 3), np.uint8), (0, 0), 3)
                    for _ in range(FRAMES)
                ]
            )
            arrays = {
                "mel": rng.normal(size=(80, FRAMES * 80 // 25)).astype(np.float32),
                "landmarks": rng.uniform(0, size, (FRAMES, 68, 2)).astype(np.float32),
                "identity_warp": np.tile(np.eye(2, 3, dtype=np.float32), (FRAMES, 1, 1)),
            }
            writer.add(
                Clip(f"{number}", "noise", "train", f"{number // 2}", FRAMES, 25.0, size), frames, arrays
            )
    return Store.open(root)


@dataclass
class Encoder:
    """Codes by a network with random weights; `memory_format` and `bfloat16` as given."""

    network: VQGAN
    size: int
    folder: Path
    batch_size: int = 16
    bfloat16: bool = False
    memory_format: torch.memory_format = torch.channels_last
    key: str = "random"
    fixed: np.ndarray | None = None  # codes of every frame, in place of the network's

    @torch.inference_mode()
    def images(self, images: Tensor) -> Tensor:
        """Pictures in [-1, 1] → codes."""
        with torch.autocast("cpu", torch.bfloat16, self.bfloat16):
            return self.network.encode_codes(images.contiguous(memory_format=self.memory_format))

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if self.fixed is not None:
            return np.tile(self.fixed, (len(frames), 1, 1))
        images = torch.from_numpy(resize_frames(frames, self.size)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.images(images).numpy().astype(np.uint16)


def config(experiment: str, size: str) -> Any:
    """The composed config of a stage."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", overrides=[f"experiment={experiment}", f"size={size}"])


def building(encode: Encoder, store: Store, scratch: Path, size: str) -> list[tuple[str, float]]:
    """Frames of the cache that a second of one core gives, by setting."""
    rows: list[tuple[str, float]] = []
    many = 2 if size == "paper" else 16
    settings = [
        ("frame by frame, PyTorch's default memory format", 1, False, torch.contiguous_format),
        (f"{many} at once", many, False, torch.contiguous_format),
        (f"{many} at once, channels last", many, False, torch.channels_last),
        (f"{many} at once, channels last, bfloat16", many, True, torch.channels_last),
    ]
    if size == "demo":
        settings.append(("64 at once, channels last", 64, False, torch.channels_last))
    pictures = torch.from_numpy(resize_frames(store.frames_at(store.clips[0], [0] * 64), encode.size))
    images = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    reading = seconds(lambda: resize_frames(store.frames(store.clips[0]), encode.size), 2) / FRAMES
    for name, batch, half, layout in settings:
        encode.network.to(memory_format=layout)
        other = Encoder(encode.network, encode.size, scratch, batch, half, layout)
        encoding = seconds(partial(other.images, images[:batch]), REPEATS[size]) / batch
        rows.append((name, 1 / (reading + encoding)))
    encode.network.to(memory_format=torch.channels_last)
    return rows


def step_of(network: torch.nn.Module, inputs: Callable[[], tuple[Tensor, ...]]) -> Callable[[], None]:
    """Forward and backward of a stage's network on latents, with a loss on its output."""

    def step() -> None:
        network.zero_grad()
        out = network(*inputs())
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()

    return step


def stages(size: str, store: Store, latents: LatentCache, encode: Encoder) -> list[dict[str, Any]]:
    """Times of the stages' batches and steps, a sample."""
    batch, repeats = BATCH[size], REPEATS[size]
    vqgan = encode.network

    def look(codes: Tensor) -> Tensor:
        """Codes ``b … h w`` → latents ``b … d h w``."""
        flat = vqgan.lookup(codes.flatten(0, -3))
        return flat.unflatten(0, codes.shape[:-2]).detach()

    def draw(dataset: ClipWindows) -> dict[str, Any]:
        return collate([dataset[0, index] for index in range(batch)])

    def encoded(dataset: ClipWindows) -> None:
        pictures = to_model_range(draw(dataset))
        images = [pictures[name].flatten(0, 1) for name in ("video", "reference") if name in pictures]
        encode.images(torch.cat(images))

    rows: list[dict[str, Any]] = []
    swap_cfg, lip_cfg = config("swaptalk_face_swap", size), config("swaptalk_lip_sync", size)
    expert_cfg = config("swaptalk_sync_expert", size)
    pairs = SwapPairs(store, store.clips, latents)
    pair = draw(pairs)
    swap = step_of(
        build(swap_cfg.system.face_swap), lambda: (look(pair["target_codes"]), look(pair["source_codes"]))
    )
    rows.append(
        {
            "stage": "face swap: target, source, label",
            "pictures": WindowSettings(1, size=encode.size, reference_frames=2, sound=False),
            "cached": pairs,
            "step": swap,
        }
    )
    window = WindowSettings(5, size=encode.size, reference_frames=1, mel_per_frame=True)
    cached = LatentWindows(store, store.clips, latents, window)
    lips = draw(cached)
    sync = step_of(
        build(lip_cfg.system.lip_sync),
        lambda: (
            look(lips["codes"]).chunk(2, dim=-2)[0],
            look(lips["reference_codes"]),
            lips["mel_per_frame"],
        ),
    )
    rows.append(
        {"stage": "lip-sync: 5 frames, 1 reference", "pictures": window, "cached": cached, "step": sync}
    )
    window = WindowSettings(5, size=encode.size)
    cached = LatentWindows(store, store.clips, latents, window)
    heard = draw(cached)
    expert = build(expert_cfg.system.expert).eval()  # batch normalisation refuses to train on one sample

    def judge() -> None:
        expert.zero_grad()
        lower = look(heard["codes"]).chunk(2, dim=-2)[1]
        (expert.embed_audio(heard["mel"]) * expert.embed_face(lower)).sum().backward()

    rows.append({"stage": "sync expert: 5 frames", "pictures": window, "cached": cached, "step": judge})
    for row in rows:
        pictures = ClipWindows(store, store.clips, row.pop("pictures"))
        fast = row.pop("cached")
        row["with"] = seconds(partial(draw, fast), 20) / batch
        row["without"] = seconds(partial(encoded, pictures), repeats) / batch
        row["step"] = seconds(row["step"], repeats + 1) / batch
    return rows


def measure(size: str, scratch: Path) -> list[str]:
    """The tables of a size, as Markdown lines."""
    cfg = config("swaptalk_vqgan", size)
    network = build(cfg.system.vqgan).eval().requires_grad_(False)
    pixels = cfg.size.swaptalk_vqgan.image_size
    encode = Encoder(network.to(memory_format=torch.channels_last), pixels, scratch)
    store = make_store(scratch / size, STORED[size])
    if size == "demo":
        latents = LatentCache.build(scratch / f"latents-{size}", store, encode, progress=False)
    else:  # what is in it changes no time
        side = pixels // network.factor
        noise = np.random.default_rng(0).integers(0, 1024, (side, side), np.uint16)
        fake = Encoder(network, pixels, scratch, fixed=noise)
        latents = LatentCache.build(scratch / f"latents-{size}", store, fake, progress=False)
    shape = f"{latents.shape[0]}×{latents.shape[1]}"
    lines = [
        f"## Size {size}: {pixels} px, f{network.factor}, {shape} codes, "
        f"{2 * np.prod(latents.shape)} bytes a frame",
        "",
    ]
    lines += [
        "| stage and its pictures | batch with the cache, ms | without, ms | times faster "
        "| step of the network, ms | whole step times faster | share of encoding without |"
    ]
    lines += ["|---|---:|---:|---:|---:|---:|---:|"]
    for row in stages(size, store, latents, encode):
        slow, fast, step = row["without"], row["with"], row["step"]
        lines.append(
            f"| {row['stage']} | {fast * 1e3:.2f} | {slow * 1e3:.1f} | {slow / fast:.0f} | {step * 1e3:.1f} "
            f"| {(slow + step) / (fast + step):.1f} | {slow / (slow + step):.0%} |"
        )
    lines += ["", "| making the cache | frames a second of one core | ratio |", "|---|---:|---:|"]
    rows = building(encode, store, scratch, size)
    lines += [f"| {name} | {rate:.3g} | {rate / rows[0][1]:.2f} |" for name, rate in rows]
    return [*lines, ""]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paper", action="store_true", help="paper size as well")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    lines = [
        "Processor times a sample, of one thread. *Step of the network*: forward and backward of the stage's "
        "network on latents; losses that decode (identity on pictures) come on top in either case.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for size in ["demo", *(["paper"] if arguments.paper else [])]:
            lines += measure(size, Path(folder))
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if arguments.write:
        keep("latents", "Latents", text)


if __name__ == "__main__":
    main()
