"""Frames a second of DisentTalk's motion: DDPM with all 400 steps against a few, and what is kept over steps.

    python benchmarks/disenttalk_motion.py [--size demo] [--device cpu] [--write]

Networks are untrained, since weights do not change the time. On a CPU it is processor time of one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from document import keep
from omegaconf import OmegaConf
from timing import flops, seconds

from talkgen.configuration import config_folder
from talkgen.diffusion.ancestral import Ancestral
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.sampler import Sampler
from talkgen.diffusion.schedule import Estimate
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.noise import motion_schedule
from talkgen.models.disenttalk.sampling import Guidance, sample_window

SIZES, AUDIO_DIM, FRAMES = (6, 4, 20), 384, 100
WAYS: dict[str, tuple[Sampler, float]] = {
    "DDPM, 400 steps, guidance": (Ancestral(400), 2.0),
    "DDPM, 400 steps": (Ancestral(400), 1.0),
    "DDIM, 25 steps": (DDIM(25, spacing="trailing"), 1.0),
    "DPM-Solver++, 10 steps, guidance": (DPMSolver(10), 2.0),
    "DPM-Solver++, 10 steps": (DPMSolver(10), 1.0),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", default="demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size = OmegaConf.load(config_folder() / f"size/{arguments.size}.yaml").disenttalk_motion
    denoiser = MotionDenoiser(
        SIZES, AUDIO_DIM, int(size.width), int(size.blocks), int(size.heads), int(size.audio_layers)
    )
    denoiser = denoiser.to(arguments.device).eval()
    diffusion = GaussianDiffusion(motion_schedule(), "x0", learned_range=False).to(arguments.device)
    heard = torch.randn(1, FRAMES, AUDIO_DIM, device=arguments.device)

    @torch.no_grad()
    def forgetful() -> None:
        """The two branches of guidance one after the other, and the sound encoded in every step."""
        noise = torch.randn(1, FRAMES, sum(SIZES), device=arguments.device)
        nobody = torch.ones(1, dtype=torch.bool, device=arguments.device)

        def denoise(x: torch.Tensor, timestep: int) -> Estimate:
            t = torch.full((1,), timestep, device=arguments.device)
            c, u = denoiser(x, t, heard), denoiser(x, t, heard, None, nobody)
            return diffusion.estimate(u + 2 * (c - u), x, t)

        DPMSolver(10).sample(diffusion.schedule, denoise, noise)

    def sampling(sampler: Sampler, scale: float) -> Callable[[], object]:
        return lambda: sample_window(denoiser, diffusion, sampler, heard, Guidance(scale))

    times = {
        name: seconds(sampling(sampler, scale), 1 if "400" in name else 3, arguments.device)
        for name, (sampler, scale) in WAYS.items()
    }
    times["the same with guidance, nothing kept over steps"] = seconds(forgetful, 3, arguments.device)
    base = next(iter(times))
    step = torch.zeros(1, dtype=torch.long, device=arguments.device)
    with torch.no_grad():
        memory = denoiser.remember(heard)
        once = flops(lambda: denoiser.remember(heard))
        each = flops(lambda: denoiser.denoise(torch.randn(1, FRAMES, 30).to(heard), step, memory))
    parameters = sum(p.numel() for p in denoiser.parameters()) / 1e6
    lines = [
        f"A window of {FRAMES} frames, size={arguments.size}; {parameters:.2f} M parameters; "
        f"{each / 1e9:.2f} GFLOP a step, and {once / 1e9:.2f} once for the sound.",
        "",
        f"| way | frames/s | against {base} |",
        "|---|---|---|",
        *(f"| {name} | {FRAMES / time:.0f} | {times[base] / time:.1f} × |" for name, time in times.items()),
    ]
    print("\n".join(lines))
    if arguments.write:
        keep("disenttalk_motion", "DisentTalk's motion", "\n".join(lines), device=arguments.device)


if __name__ == "__main__":
    main()
