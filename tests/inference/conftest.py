"""A tiny untrained Diff2Lip in the folder of its method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from talkgen.configuration import RunFolder, build

UNET = {
    "_target_": "talkgen.models.diff2lip.unet.Diff2LipUNet",
    "image_size": 32,
    "channels": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "attention_resolutions": [],
    "audio_channels": 8,
}


@pytest.fixture(scope="session")
def tiny_diff2lip(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a method whose network hears, sees, and was never trained."""
    folder = tmp_path_factory.mktemp("runs") / "diff2lip-tiny"
    run = RunFolder(folder / "diff2lip_diffusion")
    run.checkpoints.mkdir(parents=True)
    torch.manual_seed(0)
    unet = build(OmegaConf.create(UNET))
    with torch.no_grad():
        for parameter in unet.parameters():  # what begins as "no change" shall change something
            if not parameter.any():
                parameter.normal_(0, 0.2)
    diffusion = {
        "_target_": "talkgen.diffusion.gaussian.GaussianDiffusion",
        "schedule": {"_target_": "talkgen.diffusion.schedule.linear_schedule"},
        "prediction": "x0",
    }
    system = {
        "_target_": "talkgen.systems.diff2lip.Diff2LipSystem",
        "unet": UNET,
        "loss": {"_target_": "talkgen.losses.denoising.DenoisingLoss", "diffusion": diffusion},
        "sampler": {"_target_": "talkgen.diffusion.dpm_solver.DPMSolver", "steps": 2},
    }
    window = {"_target_": "talkgen.data.windows.WindowSettings", "frames": 5, "size": 32}
    data = {
        "_target_": "talkgen.data.datamodule.TalkingFaceData",
        "root": str(tiny_store),
        "window": window | {"reference_frames": 1, "mel_per_frame": True},
    }
    OmegaConf.save(OmegaConf.create({"system": system, "data": data, "sync_expert": None}), run.config)
    torch.save({"state_dict": {f"unet.{k}": v for k, v in unet.state_dict().items()}}, run.last)
    return folder
