"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = Path(__file__).resolve().parent / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Numbers made by published implementations, kept with the tests."""
    return REFERENCE


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and parity vectors that lie beside the checkout (or at $TALKGEN_SHARED); else skip."""
    folder = Path(os.environ.get("TALKGEN_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "realclips").is_dir():
        pytest.skip(f"real data not found at {folder} (set TALKGEN_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 6 clips of 40 frames at 48 px, whose lower half brightens with the loudness of its mel."""
    from tiny import write_tiny_store

    return write_tiny_store(tmp_path_factory.mktemp("tiny") / "store")


@pytest.fixture(scope="session")
def tiny_method(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method's folder whose VQGAN, face-swapping and lip-sync modules are tiny and untrained."""
    from tiny import write_tiny_swaptalk

    return write_tiny_swaptalk(tmp_path_factory.mktemp("runs") / "swaptalk-tiny", tiny_store)


@pytest.fixture(scope="session")
def tiny_diff2lip(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a method whose network hears, sees, and was never trained."""
    import torch
    from omegaconf import OmegaConf

    from talkgen.configuration import RunFolder, build

    network = {
        "_target_": "talkgen.models.diff2lip.unet.Diff2LipUNet",
        "image_size": 32,
        "channels": 8,
        "multipliers": [1, 2],
        "blocks": 1,
        "attention_resolutions": [],
        "audio_channels": 8,
    }
    folder = tmp_path_factory.mktemp("runs") / "diff2lip-tiny"
    run = RunFolder(folder / "diff2lip_diffusion")
    run.checkpoints.mkdir(parents=True)
    torch.manual_seed(0)
    unet = build(OmegaConf.create(network))
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
        "unet": network,
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
