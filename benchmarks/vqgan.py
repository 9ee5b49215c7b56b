"""Processor time of encoding and decoding one 320×320 picture, and how near that is to the processor's limit.

    python benchmarks/vqgan.py            # prints the table
    python benchmarks/vqgan.py --write    # also keeps it in docs/performance/vqgan.md

The baseline is the published body (f16, 128 channels) in float32 with PyTorch's default memory format. The
limit is the time that the same number of multiplications and additions would take at the best rate seen in
the same run and precision: that of a large matrix product, or of a 3×3 convolution of 256 channels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext

import torch
from document import keep
from timing import best_rate, flops, seconds
from torch import Tensor

from talkgen.models.vqgan.vqgan import build_vqgan

SIZE = 320
BODIES = {
    "f16, 128 channels": {"channels": 128, "multipliers": (1, 1, 2, 2, 4)},
    "f16, 64 channels": {"channels": 64, "multipliers": (1, 1, 2, 2, 4)},
    "f8, 128 channels": {"channels": 128, "multipliers": (1, 1, 2, 4)},
}
MODES = {  # name → bfloat16, channels_last
    "float32, channels_last": (False, True),
    "bfloat16, channels_last": (True, True),
}
BASELINE_MODES = {"float32": (False, False), "bfloat16": (True, False)} | MODES


def measure(repeats: int) -> list[str]:
    rates = {bfloat16: best_rate(torch.bfloat16 if bfloat16 else torch.float32) for bfloat16 in (False, True)}
    lines = [
        "| network | precision, memory | what | GFLOP | ms | times faster than the baseline | of the limit |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    baseline: dict[str, float] = {}
    for body, options in BODIES.items():
        torch.manual_seed(0)
        net = build_vqgan(**options).eval()
        image = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
        latent = net.encode(image).latent
        calls: dict[str, tuple[Callable[[Tensor], object], Tensor]] = {
            "encode": (net.encode_codes, image),
            "decode": (net.decode, latent),
        }
        operations = {what: flops(lambda call=call, x=x: call(x)) for what, (call, x) in calls.items()}  # type: ignore[misc]
        modes = MODES if baseline else BASELINE_MODES
        for mode, (bfloat16, channels_last) in modes.items():
            net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
            for what, (call, x) in calls.items():
                x = x.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
                with torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext():
                    took = seconds(lambda call=call, x=x: call(x), repeats)  # type: ignore[misc]
                baseline.setdefault(what, took)
                limit = operations[what] / rates[bfloat16]
                lines.append(
                    f"| {body} | {mode} | {what} | {operations[what] / 1e9:.0f} | {1000 * took:.0f} "
                    f"| {baseline[what] / took:.2f} | {limit / took:.0%} |"
                )
                print(lines[-1], flush=True)
    rate = ", ".join(f"{'bfloat16' if b else 'float32'} {r / 1e9:.0f} GFLOP/s" for b, r in rates.items())
    lines.append(f"\nBest rate in the same run: {rate}.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        lines = measure(chosen.repeats)
    head = f"One {SIZE}×{SIZE} picture, halves encoded apart, least of {chosen.repeats}, one thread.\n\n"
    print("\n".join(lines))
    if chosen.write:
        keep("vqgan", "VQGAN", head + "\n".join(lines))


if __name__ == "__main__":
    main()
