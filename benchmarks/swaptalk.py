"""SwapTalk in use: parameters, operations and time a frame of every part, and which part is the bill.

    python benchmarks/swaptalk.py                     # paper size (320 px), some minutes
    python benchmarks/swaptalk.py --size demo         # demo size, seconds
    python benchmarks/swaptalk.py --compile           # torch.compile as well (minutes more)
    python benchmarks/swaptalk.py --device cuda       # on a GPU
    python benchmarks/swaptalk.py --write             # also keeps the tables in docs/performance/swaptalk.md

Networks are built from the configs, with random weights, which change no time. The baseline of a part is
the same part in float32, eager, channels last, with the first VQGAN. The limit is the time that as many
operations would take at the best rate seen in the same run and precision (a large matrix product or a 3×3
convolution). What is computed once a clip (the source's keys and values, the reference's features) stands
apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from document import keep
from hydra import compose, initialize_config_dir
from timing import best_rate, flops, seconds
from torch import nn

from talkgen.configuration import build, config_folder

WINDOW = 5  # frames that the lip-sync module sees at a time


@dataclass
class Part:
    """One network's work.

    Attributes:
        name: in the table.
        network: whose parameters are counted.
        call: does the work, for `frames` frames.
        frames: of a call; 0 for what is done once a clip.
    """

    name: str
    network: nn.Module
    call: Callable[[], object]
    frames: int


def config(experiment: str, size: str, *overrides: str) -> Any:
    """The composed config of a stage."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", overrides=[f"experiment={experiment}", f"size={size}", *overrides])


def network(node: Any, device: str) -> Any:
    """Random weights, for inference."""
    made = build(node).eval().requires_grad_(False).to(device)
    return made.to(memory_format=torch.channels_last)


def parts(size: str, variant: str, backbones: list[str], device: str) -> list[Part]:
    """Every part at a size; `variant` is the VQGAN's."""
    torch.manual_seed(0)
    cfg = config("swaptalk_vqgan", size, f"vqgan_variant={variant}")
    vqgan = network(cfg.system.vqgan, device)
    light = network(config("swaptalk_light_decoder", size, f"vqgan_variant={variant}").system.decoder, device)
    pixels = cfg.size.swaptalk_vqgan.image_size
    image = (torch.rand(1, 3, pixels, pixels, device=device) * 2 - 1).to(memory_format=torch.channels_last)
    latent = vqgan.encode(image).latent
    many = latent.expand(WINDOW, -1, -1, -1).contiguous()
    made = [
        Part("VQ encoder", vqgan, lambda: vqgan.encode_codes(image), 1),
        Part("decoder", vqgan, lambda: vqgan.decode(latent), 1),
        Part("light decoder", light, lambda: light.decode(latent), 1),
    ]
    for backbone in backbones:
        swap = network(config("swaptalk_face_swap", size, f"face_swap={backbone}").system.face_swap, device)
        memory = swap.source_memory(latent)
        made += [
            Part(f"face swap ({backbone}), source", swap, lambda swap=swap: swap.source_memory(latent), 0),
            Part(
                f"face swap ({backbone})",
                swap,
                lambda swap=swap, memory=memory: swap.swap(many, memory.expand(WINDOW)),
                WINDOW,
            ),
        ]
    sync = network(config("swaptalk_lip_sync", size).system.lip_sync, device)
    reference = sync.reference_features(latent[None])
    upper = many[None, :, :, : many.shape[2] // 2]
    mel = torch.randn(1, WINDOW, 1, 80, 16, device=device)
    return [
        *made,
        Part("lip-sync, reference", sync, lambda: sync.reference_features(latent[None]), 0),
        Part("lip-sync", sync, lambda: sync(upper, reference, mel), WINDOW),
    ]


def measure(size: str, device: str, compiled: bool, repeats: int) -> list[str]:
    """The tables, as Markdown lines."""
    kinds = {"float32": False, "bfloat16": True}
    rates = {half: best_rate(torch.bfloat16 if half else torch.float32, device) for half in (False, True)}
    lines = [
        "| part | VQGAN | parameters, M | GFLOP a frame | precision | ms a frame | times faster "
        "| of the limit |",
        "|---|---|---:|---:|---|---:|---:|---:|",
    ]
    frame: dict[tuple[str, str, str], float] = {}
    first: dict[str, float] = {}
    variants = ("f16", "f8") if size == "paper" else ("f8",)
    for variant in variants:
        backbones = ["unet", "transformer", "dit"] if variant == variants[0] else []
        for part in parts(size, variant, backbones, device):
            operations = flops(part.call)
            millions = sum(p.numel() for p in part.network.parameters()) / 1e6
            modes = [(kind, half, False) for kind, half in kinds.items()]
            if compiled and part.frames:
                modes += [(f"{kind}, compiled", half, True) for kind, half in kinds.items()]
            for name, half, fast in modes:
                call = torch.compile(part.call) if fast else part.call
                with torch.autocast(device, torch.bfloat16) if half else nullcontext():
                    took = seconds(call, repeats, device) / max(part.frames, 1)
                frame[part.name, variant, name] = took
                baseline = first.setdefault(part.name, took)
                limit = operations / max(part.frames, 1) / rates[half]
                lines.append(
                    f"| {part.name}{'' if part.frames else ' (once a clip)'} | {variant} | {millions:.1f} "
                    f"| {operations / max(part.frames, 1) / 1e9:.1f} | {name} | {1e3 * took:.1f} "
                    f"| {baseline / took:.2f} | {limit / took:.0%} |"
                )
                print(lines[-1], flush=True)
    best = ", ".join(
        f"{'bfloat16' if half else 'float32'} {r / 1e9:.0f} GFLOP/s" for half, r in rates.items()
    )
    lines += ["", f"Best rate in the same run: {best}.", ""]
    lines += [
        f"| the whole, a frame ({variants[0]}, UNet swap) | ms | frames/s | times faster | decoder's share |",
        "|---|---:|---:|---:|---:|",
    ]
    base = 0.0
    for name in dict.fromkeys(key[2] for key in frame):
        for decoder in ("decoder", "light decoder"):
            rest = sum(
                frame[part, variants[0], name] for part in ("VQ encoder", "face swap (unet)", "lip-sync")
            )
            decoding = frame[decoder, variants[0], name]
            base = base or rest + decoding
            lines.append(
                f"| {name}, {decoder} | {1e3 * (rest + decoding):.0f} | {1 / (rest + decoding):.2f} "
                f"| {base / (rest + decoding):.2f} | {decoding / (rest + decoding):.0%} |"
            )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("demo", "paper"), default="paper")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        lines = measure(chosen.size, chosen.device, chosen.compile, chosen.repeats)
    print("\n".join(lines))
    if chosen.write:
        head = f"Size {chosen.size}. What the cache of codes saves in training: [latents](latents.md).\n\n"
        keep("swaptalk", "SwapTalk", head + "\n".join(lines), device=chosen.device)


if __name__ == "__main__":
    main()
