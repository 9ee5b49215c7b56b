"""How far samplers are from the exact answer, by calls of the network, and what they cost beside them.

    python benchmarks/samplers.py            # prints the tables
    python benchmarks/samplers.py --write    # also keeps them in docs/performance/samplers.md

The data is a one-dimensional Gaussian mixture with narrow components, for which the best denoiser and the
probability flow are known. Errors are ratios to DDIM with 25 leading steps, the published setting. Where the
library diffusers is installed (it is no dependency), its schedulers run beside ours.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import torch
from document import ROOT, keep
from timing import seconds

sys.path.insert(0, str(ROOT / "tests" / "reference"))

from mixture import MIXTURE, SCHEDULE

from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.sampler import Sampler
from talkgen.diffusion.schedule import Estimate
from talkgen.diffusion.unipc import UniPC

CALLS = (4, 6, 8, 10, 12, 16, 25)
SAMPLERS = {
    "DDIM": DDIM(),
    "DPM-Solver++ (2M)": DPMSolver(),
    "UniPC, order 2": UniPC(),
    "UniPC, order 3": UniPC(order=3),
}
REPORT_TEXT = """Error against the exact answer on a Gaussian mixture, as a ratio to DDIM with 25 leading
steps (the published setting); columns are calls of the network.

{errors}

Processor time of one thread; torch itself and the network are not counted.

{costs}
"""


def error(sampler: Sampler) -> float:
    """Mean distance of 4000 samples from where the exact flow takes the same noise."""
    noise = torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(-3, 3)
    samples = sampler.sample(SCHEDULE, MIXTURE.denoise, noise)
    return float((samples - MIXTURE.exact(noise, sampler.timesteps(SCHEDULE)[0])).abs().mean())


def error_table() -> list[str]:
    """One line a sampler and spacing."""
    baseline = error(DDIM(25))
    lines = [
        "| sampler | spacing | " + " | ".join(map(str, CALLS)) + " |",
        "|---|---|" + "---|" * len(CALLS),
    ]
    for name, sampler in SAMPLERS.items():
        for spacing in ("leading", "trailing", "log_snr"):
            ratios = [error(replace(sampler, steps=steps, spacing=spacing)) / baseline for steps in CALLS]
            lines.append(f"| {name} | {spacing} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return lines


def seconds_to_import(statement: str) -> float:
    """Processor time of a fresh interpreter that imports, least of three."""
    times = []
    for _ in range(3):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", statement], check=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    return min(times)


def milliseconds_a_step(shape: tuple[int, ...] = (25, 3, 128, 128)) -> dict[str, float]:
    """Cost of 25 steps of DDIM on frames, with a denoiser that does nothing; least of three."""
    noise = torch.randn(shape)

    def ours() -> None:
        DDIM(25).sample(SCHEDULE, lambda x, t: Estimate(x, x), noise)

    runs = {"talkgen": ours}
    if find_spec("diffusers"):
        from diffusers import DDIMScheduler

        def theirs() -> None:
            scheduler = DDIMScheduler(1000, 1e-4, 0.02, "linear", clip_sample=False)
            scheduler.set_timesteps(25)
            x = noise
            for t in scheduler.timesteps:
                x = scheduler.step(x, t, x).prev_sample

        runs["diffusers"] = theirs
    return {name: seconds(run, 3) / 25 * 1000 for name, run in runs.items()}


def cost_table() -> list[str]:
    """Import and step, ours and theirs."""
    steps = milliseconds_a_step()
    torch_alone = seconds_to_import("import torch")
    imports = {"talkgen": seconds_to_import("import talkgen.diffusion.unipc") - torch_alone}
    if "diffusers" in steps:
        imports["diffusers"] = seconds_to_import("from diffusers import DDIMScheduler") - torch_alone
    lines = [
        "| | import, processor seconds beyond torch | a DDIM step on 25 frames of 128², ms |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {imports[name]:.1f} | {steps[name]:.1f} |" for name in steps]
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    text = REPORT_TEXT.format(errors="\n".join(error_table()), costs="\n".join(cost_table()))
    print(text)
    if chosen.write:
        keep("samplers", "Samplers", text)


if __name__ == "__main__":
    main()
