"""The benchmarks' own arithmetic, and the comparison with a stand-in for the official repository."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
import torch
from script_module import load_script

from talkgen.models.diff2lip.unet import Diff2LipUNet

TINY = {"image_size": 16, "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_resolutions": []}

# What an official checkout looks like from outside: names, flags and keyword arguments as published; inside
# it is the network of this package and a DDIM of a few lines.
SCRIPT_UTIL = """
import torch
from talkgen.diffusion.schedule import linear_schedule
from talkgen.models.diff2lip.unet import Diff2LipUNet


def tfg_model_and_diffusion_defaults():
    return dict(image_size=64, num_channels=128, learn_sigma=False, timestep_respacing="", use_fp16=True)


class Model(Diff2LipUNet):
    def forward(self, x, timesteps, cond_img=None, mask=None, ref_img=None, indiv_mels=None):
        return super().forward(x, timesteps, cond_img, mask, ref_img, indiv_mels[:, None])


class Diffusion:
    def __init__(self, steps):
        self.grid = range(0, 1000, 1000 // steps)

    def ddim_sample_loop(self, model, shape, noise, clip_denoised, model_kwargs, device):
        schedule, x = linear_schedule(), noise
        for t in reversed(self.grid):
            e = model(x, torch.full((len(x),), t), **model_kwargs)[:, :3]
            a, b = (schedule.alpha_bar(s) for s in (t, t - self.grid.step))
            x0 = ((x - (1 - a) ** 0.5 * e) / a**0.5).clamp(-1, 1)
            e = (x - a**0.5 * x0) / (1 - a) ** 0.5
            x = b**0.5 * x0 + (1 - b) ** 0.5 * e
        return x


def tfg_create_model_and_diffusion(image_size, num_channels, learn_sigma, timestep_respacing, use_fp16):
    assert learn_sigma and not use_fp16 and num_channels == 128 and image_size == 128
    return Model(**SIZES), Diffusion(int(timestep_respacing.removeprefix("ddim")))
"""


def load(name: str) -> ModuleType:
    return load_script(f"benchmarks/{name}.py")


@pytest.fixture(scope="module")
def network() -> ModuleType:
    return load("diff2lip_network")


def test_a_checkout_of_the_official_layout_runs_beside_ours(
    network: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights and noise on both sides give the same pictures; half precision gives near ones."""
    package = tmp_path / "guided-diffusion" / "guided_diffusion"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "script_util.py").write_text(f"{SCRIPT_UTIL}\n\nSIZES = {TINY}\n")
    torch.manual_seed(0)
    torch.save(network.random_state(Diff2LipUNet(**TINY)), tmp_path / "w.pt")  # type: ignore[arg-type]

    def here(kind: str, **task: object) -> dict[str, float]:  # without the seconds of new processes
        return network.CHILDREN[kind](task)  # type: ignore[no-any-return]

    monkeypatch.setattr(network, "run_child", here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    lines = network.official_table(tmp_path, tmp_path / "w.pt", 2, 5, TINY)
    rows = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines[3:]}
    assert float(rows["ours, fp32"].replace("∞", "200")) > 60
    assert 20 < float(rows["ours, bf16"]) < 60
    for name in ("guided_diffusion", "guided_diffusion.script_util", *network.CLUSTER):
        if name.startswith("guided") or isinstance(sys.modules.get(name), MagicMock):
            sys.modules.pop(name, None)


def test_every_row_is_measured_in_a_process_of_its_own(
    network: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = network.run_child("network", frames=1, repeats=1, unet=TINY, bf16=True, outer=1)
    assert got["seconds"] > 0 and 0.1 < got["gigabytes"] < 8
    failed = subprocess.CompletedProcess([], 1, "", "ValueError: 17 pixels")
    monkeypatch.setattr(network.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="network failed:\nValueError: 17 pixels"):
        network.run_child("network")


def test_a_training_step_is_measured(network: ModuleType) -> None:
    got = network.CHILDREN["training"]({"frames": 2, "unet": TINY, "autocast": True, "checkpointing": True})
    assert got["seconds"] > 0


def test_quality_against_cost(tiny_diff2lip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer calls cost less, the table names the published setting, and the picture is drawn."""
    curve = load("diff2lip")
    monkeypatch.setattr(curve, "open_landmark_source", lambda: None)
    names = [curve.OFFICIAL, "DPM-Solver++, 2 steps", "distilled, 2 steps"]
    rows = curve.measure(tiny_diff2lip, names, clips=1, frames=10)
    assert list(rows) == ["ground truth", "reference's mouth copied", *names[:2]]  # none is distilled
    official, fast = rows[names[0]], rows[names[1]]
    assert (official.calls, fast.calls) == (25, 2)
    assert official.milliseconds > 2 * fast.milliseconds > 0
    lines = curve.table(rows)
    assert f"| **{curve.OFFICIAL} (as published)** | 25 |" in "\n".join(lines) and len(lines) == 6
    pytest.importorskip("matplotlib")
    curve.draw({n: replace(r, values={"PSNR": 20.0}) for n, r in rows.items()}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
