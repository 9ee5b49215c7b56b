"""What Diff2Lip's network costs at its published size, and a checkout of the official repository beside it.

    python benchmarks/diff2lip_network.py                      # a step of one frame, and a training step
    python benchmarks/diff2lip_network.py --official CHECKOUT  # the official code and ours
    python benchmarks/diff2lip_network.py --device cuda --frames 32 --windows 8  # on a GPU; compiled as well
    python benchmarks/diff2lip_network.py --write              # keeps what it printed in docs/performance

Weights are random: time and memory do not depend on them. ``--weights FILE`` takes published ones. Every row
is a process of its own, so that its peak memory is its own. The official code is imported from
``CHECKOUT/guided-diffusion`` (or ``CHECKOUT``), its network and ``ddim_sample_loop`` called as its script
does; the script itself cannot run on current PyTorch, so what is compared is the network in its sampler. On a
GPU it computes in half precision, as its script does there.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from document import keep
from timing import best_rate
from torch import Tensor

GFLOP = 157.4  # of one step of one frame at the published size

WAYS: dict[str, dict[str, Any]] = {
    "eager, fp32": {},
    "eager, fp32, channels last": {"channels_last": True},
    "bf16 autocast": {"autocast": True},
    "bf16 weights": {"bf16": True},
    "bf16 weights, channels last": {"bf16": True, "channels_last": True},
    "bf16 weights, channels last, outer blocks alone": {"bf16": True, "channels_last": True, "outer": 3},
}
"""Row → how the network is run; the last one is the price of a step that reuses deep features."""

GPU_WAYS: dict[str, dict[str, Any]] = {
    **WAYS,
    "bf16 weights, channels last, compiled": {"bf16": True, "channels_last": True, "compile": True},
}
TRAINING_WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16 autocast": {"autocast": True},
    "bf16 autocast, gradient checkpointing": {"autocast": True, "checkpointing": True},
}
GPU_TRAINING_WAYS: dict[str, dict[str, Any]] = {
    **TRAINING_WAYS,
    "bf16 autocast, channels last": {"autocast": True, "channels_last": True},
    "bf16 autocast, channels last, compiled": {"autocast": True, "channels_last": True, "compile": True},
}

OFFICIAL_FLAGS = {
    "attention_resolutions": "32,16,8", "class_cond": False, "learn_sigma": True, "num_channels": 128,
    "num_head_channels": 64, "num_res_blocks": 2, "resblock_updown": True, "use_fp16": False,
    "use_scale_shift_norm": False, "predict_xstart": False, "diffusion_steps": 1000,
    "noise_schedule": "linear", "rescale_timesteps": False, "image_size": 128, "nframes": 5, "nrefer": 1,
    "use_ref": True, "use_audio": True, "audio_as_style": True,
}  # fmt: skip
"""The only published configuration; half precision is for GPUs."""

CLUSTER = ("blobfile", "mpi4py", "lpips_pytorch", "torch.utils.tensorboard")
"""What the authors' modules import for storage, several machines, losses and logs; sampling needs none."""


def inputs(frames: int, size: int, seed: int = 0) -> dict[str, Tensor]:
    """A target, a reference, mels and noise, the same for both sides."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "target": torch.rand(frames, 3, size, size, generator=generator) * 2 - 1,
        "reference": torch.rand(frames, 3, size, size, generator=generator) * 2 - 1,
        "mel": torch.randn(frames, 1, 80, 16, generator=generator),
        "noise": torch.randn(1, 3, size, size, generator=generator).repeat(frames, 1, 1, 1),
    }


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Median of some runs, after one that does not count."""
    work()
    return statistics.median(seconds_once(work) for _ in range(repeats))


def seconds_once(work: Callable[[], object]) -> float:
    """Wall clock of one run, until a GPU is idle again."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_gigabytes() -> float:
    """Greatest memory of this process: that of the GPU where one was used, else the resident one."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def on_device(task: Mapping[str, Any], size: int) -> tuple[dict[str, Tensor], str]:
    """The inputs of a task, and where they are."""
    device = str(task.get("device", "cpu"))
    return {name: value.to(device) for name, value in inputs(task["frames"], size).items()}, device


# Children: each prints one line of JSON ---------------------------------------------------------------------


def network_child(task: Mapping[str, Any]) -> dict[str, float]:
    """One step of some frames at the published size."""
    from talkgen.models.diff2lip.inpainting import hide, lower_mask
    from talkgen.models.diff2lip.unet import DeepFeatures, Diff2LipUNet

    unet = Diff2LipUNet(**task["unet"]).eval().requires_grad_(False)
    x, device = on_device(task, unet.image_size)
    unet = unet.to(device)
    held = peak_gigabytes()
    if task.get("bf16"):
        unet = unet.to(torch.bfloat16)
    if task.get("channels_last"):
        unet = unet.to(memory_format=torch.channels_last)
    denoise = torch.compile(unet.denoise) if task.get("compile") else unet.denoise
    mask = lower_mask(unet.image_size).to(device)
    masked = hide(x["target"], mask, x["noise"])
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, bool(task.get("autocast"))):
        times = torch.full((task["frames"],), 500, device=device)
        embedding = unet.embed_time(times) + unet.embed_audio(x["mel"])
        deep = DeepFeatures(task["outer"]) if task.get("outer") else None
        given = x["noise"], embedding, masked, mask, x["reference"], deep
        seconds = seconds_of(lambda: denoise(*given), task["repeats"]) / task["frames"]
    return {"seconds": seconds, "gigabytes": peak_gigabytes(), "held": held}


def matmul_child(task: Mapping[str, Any]) -> dict[str, float]:
    """What this machine computes at best, in GFLOP/s."""
    device = str(task.get("device", "cpu"))
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: best_rate(dtype, device) / 1e9 for name, dtype in kinds.items()}


def training_child(task: Mapping[str, Any]) -> dict[str, float]:
    """Forward, backward and update of windows of five frames through the masked hybrid loss and L2."""
    from talkgen.diffusion.gaussian import GaussianDiffusion
    from talkgen.diffusion.schedule import linear_schedule
    from talkgen.losses.denoising import DenoisingLoss
    from talkgen.models.diff2lip.inpainting import hide, lower_mask
    from talkgen.models.diff2lip.unet import Diff2LipUNet

    unet = Diff2LipUNet(**task["unet"], gradient_checkpointing=task.get("checkpointing", False)).train()
    x, device = on_device(task, unet.image_size)
    unet = unet.to(device)
    if task.get("channels_last"):
        unet = unet.to(memory_format=torch.channels_last)
    network = torch.compile(unet) if task.get("compile") else unet
    loss = DenoisingLoss(GaussianDiffusion(linear_schedule())).to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4)
    mask = lower_mask(unet.image_size).to(device)
    t = torch.full((task["frames"],), 500, device=device)
    noisy = loss.diffusion.schedule.add_noise(x["target"], x["noise"], t)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, bool(task.get("autocast"))):
            masked = hide(x["target"], mask, torch.randn_like(x["target"]))
            output = network(noisy, t, masked, mask, x["reference"], x["mel"])
            terms = loss(output, x["target"], x["noise"], noisy, t, mask)
            total = terms.noise + terms.variational + (mask * (terms.x0 - x["target"])).square().mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return {"seconds": seconds_of(step, task.get("repeats", 1)), "gigabytes": peak_gigabytes()}


def ours_child(task: Mapping[str, Any]) -> dict[str, float]:
    """DDIM by this package on the same frames; the result goes to a file."""
    from talkgen.checkpoints import load_published
    from talkgen.diffusion.ddim import DDIM
    from talkgen.diffusion.gaussian import GaussianDiffusion
    from talkgen.diffusion.schedule import linear_schedule
    from talkgen.models.diff2lip.inpainting import inpaint, lower_mask
    from talkgen.models.diff2lip.unet import Diff2LipUNet

    unet = Diff2LipUNet(**task["unet"])
    load_published(unet, task["weights"], layout="diff2lip")
    x, device = on_device(task, unet.image_size)
    unet = unet.eval().requires_grad_(False).to(device)
    if task.get("bf16"):
        unet = unet.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if task.get("compile"):
        unet.denoise = torch.compile(unet.denoise)  # type: ignore[method-assign]
    diffusion, mask = GaussianDiffusion(linear_schedule()).to(device), lower_mask(unet.image_size).to(device)

    def work() -> Tensor:
        return inpaint(
            unet, diffusion, DDIM(task["steps"]), x["target"], x["reference"], x["mel"], mask, x["noise"]
        )

    return timed(work, task)


def official_child(task: Mapping[str, Any]) -> dict[str, float]:
    """The same by a checkout of the official repository."""
    checkout = Path(task["checkout"])
    for folder in (checkout, checkout / "guided-diffusion"):
        sys.path.insert(0, str(folder))
    for absent in CLUSTER:
        try:
            importlib.import_module(absent)
        except ImportError:
            sys.modules[absent] = MagicMock(__name__=absent)
    from guided_diffusion import script_util  # type: ignore[import-not-found]

    settings = script_util.tfg_model_and_diffusion_defaults()
    settings |= {key: value for key, value in OFFICIAL_FLAGS.items() if key in settings}
    settings["use_fp16"] = task.get("device", "cpu") != "cpu"
    settings["timestep_respacing"] = f"ddim{task['steps']}"
    model, diffusion = script_util.tfg_create_model_and_diffusion(**settings)
    model.load_state_dict(torch.load(task["weights"], map_location="cpu", weights_only=True))
    model.eval().requires_grad_(False)
    size = int(getattr(model, "image_size", settings["image_size"]))
    x, device = on_device(task, size)
    model.to(device)
    if device != "cpu":
        model.convert_to_fp16()
    mask = torch.zeros(task["frames"], 1, size, size, device=device)
    mask[:, :, size // 2 :] = 1
    known = {
        "cond_img": x["target"] * (1 - mask) + mask * x["noise"],
        "mask": mask,
        "ref_img": x["reference"],
        "indiv_mels": x["mel"][:, 0],  # (b, 80, 16)
        "mel": x["mel"],
    }
    taken = inspect.signature(model.forward).parameters
    open_ended = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    kwargs = {name: value for name, value in known.items() if open_ended or name in taken}

    def work() -> Tensor:
        with torch.no_grad():
            sample = diffusion.ddim_sample_loop(
                model, tuple(x["target"].shape), noise=x["noise"], clip_denoised=True, model_kwargs=kwargs,
                device=torch.device(device),
            )  # fmt: skip
        return sample * mask + (1 - mask) * x["target"]

    return timed(work, task)


def timed(work: Callable[[], Tensor], task: Mapping[str, Any]) -> dict[str, float]:
    """Seconds a frame and memory of one sampling (on a GPU of the second); its result goes to a file."""
    if task.get("device", "cpu") != "cpu":
        work()
    made: list[Tensor] = []
    seconds = seconds_once(lambda: made.append(work())) / task["frames"]
    np.save(task["out"], made[0].float().cpu().numpy())
    return {"seconds": seconds, "gigabytes": peak_gigabytes()}


CHILDREN = {
    "network": network_child, "matmul": matmul_child, "training": training_child, "ours": ours_child,
    "official": official_child,
}  # fmt: skip


def run_child(kind: str, **task: Any) -> dict[str, float]:
    """One measurement in a process of its own.

    Raises:
        RuntimeError: it failed; what it said is in the message.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps({"kind": kind, **task})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


# Tables -----------------------------------------------------------------------------------------------------


def network_table(
    frames: int, repeats: int, unet: Mapping[str, Any], gflop: float = GFLOP, device: str = "cpu"
) -> list[str]:
    """One step of one frame, as a ratio to eager fp32, and the share of the best rate of its precision."""
    rates = run_child("matmul", device=device)
    lines = [
        f"One step of one frame, batches of {frames}; a matrix product or convolution reaches "
        f"{rates['fp32']:.0f} GFLOP/s in fp32 and {rates['bf16']:.0f} in bf16.",
        "",
        "| way | ms a frame and step | times as fast | share of the best rate | peak memory, GiB |",
        "|---|---:|---:|---:|---:|",
    ]
    base = None
    for name, way in (WAYS if device == "cpu" else GPU_WAYS).items():
        got = run_child("network", frames=frames, repeats=repeats, unet=dict(unet), device=device, **way)
        base = base or got["seconds"]
        rate = rates["bf16" if way.get("bf16") or way.get("autocast") else "fp32"]
        share = "–" if way.get("outer") else f"{gflop / got['seconds'] / rate:.0%}"
        lines.append(
            f"| {name} | {1e3 * got['seconds']:.3g} | {base / got['seconds']:.2f} | {share} "
            f"| {got['gigabytes']:.2f} |"
        )
    return lines


def training_table(
    frames: int, unet: Mapping[str, Any], device: str = "cpu", repeats: int = 1, gflop: float = GFLOP
) -> list[str]:
    """A training step of some windows; its operations are three times those of the network's forward."""
    rates = run_child("matmul", device=device)
    lines = [
        f"One training step of {frames} frames in windows of five (network, hybrid loss, L2, AdamW; further "
        "terms come on top).",
        "",
        "| way | s | frames/s | share of the best rate | peak memory, GiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, way in (TRAINING_WAYS if device == "cpu" else GPU_TRAINING_WAYS).items():
        got = run_child("training", frames=frames, unet=dict(unet), device=device, repeats=repeats, **way)
        share = 3 * gflop * frames / got["seconds"] / rates["bf16" if way.get("autocast") else "fp32"]
        lines.append(
            f"| {name} | {got['seconds']:.3g} | {frames / got['seconds']:.3g} | {share:.0%} "
            f"| {got['gigabytes']:.1f} |"
        )
    return lines


def official_table(
    checkout: Path,
    weights: Path | None,
    frames: int,
    steps: int,
    unet: Mapping[str, Any],
    device: str = "cpu",
) -> list[str]:
    """The official code and ours: same weights, same frames, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        if weights is None:
            from talkgen.models.diff2lip.unet import Diff2LipUNet

            torch.manual_seed(0)
            weights = Path(folder) / "random.pt"
            torch.save(random_state(Diff2LipUNet(**unet)), weights)
        task = {
            "weights": str(weights), "frames": frames, "steps": steps, "unet": dict(unet), "device": device
        }  # fmt: skip
        out = {name: str(Path(folder) / f"{name}.npy") for name in ("official", "ours", "bf16", "compiled")}
        official = run_child("official", checkout=str(checkout), out=out["official"], **task)
        rows = {
            "ours, fp32": (run_child("ours", out=out["ours"], **task), "ours"),
            "ours, bf16": (run_child("ours", out=out["bf16"], bf16=True, **task), "bf16"),
        }
        if device != "cpu":
            compiled = run_child("ours", out=out["compiled"], bf16=True, compile=True, **task)
            rows["ours, bf16, compiled"] = compiled, "compiled"
        true = np.load(out["official"])
        lines = [
            f"DDIM in {steps} steps, {frames} frame(s), the same weights and noise.",
            "",
            "| code | s a frame | times as fast | peak memory, GiB | PSNR of the mask to the official, dB |",
            "|---|---:|---:|---:|---:|",
            f"| official{'' if device == 'cpu' else ', fp16'} | {official['seconds']:.3g} | 1.00 "
            f"| {official['gigabytes']:.2f} | – |",
        ]
        for name, (got, file) in rows.items():
            half = true.shape[2] // 2
            error = float(((np.load(out[file]) - true)[:, :, half:] ** 2).mean())
            likeness = "∞" if error == 0 else f"{10 * np.log10(4 / error):.1f}"
            lines.append(
                f"| {name} | {got['seconds']:.3g} | {official['seconds'] / got['seconds']:.2f} "
                f"| {got['gigabytes']:.2f} | {likeness} |"
            )
    return lines


def random_state(unet: torch.nn.Module) -> dict[str, Tensor]:
    """Weights in which nothing is zero, so that every layer counts."""
    state = unet.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and not value.any() and value.ndim > 1:
            state[name] = torch.randn(value.shape) * 0.02
    return state


TITLE = "Diff2Lip's network at its published size"
REPORT_TEXT = """101.7 million parameters, 128 × 128, {gflop} GFLOP a step and frame. Random weights.

{network}

{training}
"""


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--frames", type=int, default=4, help="of a batch")
    parser.add_argument("--windows", type=int, default=1, help="of five frames, in a training step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--official", type=Path, help="checkout of the official repository")
    parser.add_argument("--weights", type=Path, help="published weights; default: random ones")
    parser.add_argument("--steps", type=int, default=25, help="of DDIM, with --official")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        task = json.loads(chosen.child)
        print(json.dumps(CHILDREN[task.pop("kind")](task)))
        return
    device = chosen.device
    if chosen.official:
        lines = official_table(chosen.official, chosen.weights, chosen.frames, chosen.steps, {}, device)
        print("\n".join(lines))
        if chosen.write:
            keep("diff2lip_network", TITLE, "\n".join(lines), "official", device)
        return
    text = REPORT_TEXT.format(
        gflop=GFLOP,
        network="\n".join(network_table(chosen.frames, chosen.repeats, {}, device=device)),
        training="\n".join(training_table(5 * chosen.windows, {}, device)),
    )
    print(text)
    if chosen.write:
        keep("diff2lip_network", TITLE, text, device=device)


if __name__ == "__main__":
    main(sys.argv[1:])
