"""Weights & Biases without an account: a run on disk that can be uploaded later."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(folder: str | Path, project: str = "talkgen", offline: bool = True) -> WandbLogger:
    """A logger that writes below the run folder and goes on with the same wandb run after a restart.

    Args:
        folder: the run folder; its name becomes the run's name and job type, that of the folder above it (a
            method's, for a stage) the group: wandb's page then has a section for each method.
        project: project at wandb.
        offline: nothing leaves the machine; ``wandb sync <folder>/wandb/offline-*`` uploads it later.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"silent": True}
    if offline:
        # wandb's own error reports would be the only thing to reach for the network.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    logger = WandbLogger(
        name="/".join(folder.parts[-2:]),
        group=folder.resolve().parent.name,
        job_type=folder.name,
        id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12],
        project=project,
        save_dir=str(folder),
        offline=offline,
        resume=None if offline else "allow",
        settings=wandb.Settings(**settings),
    )
    # wandb has dropped this argument and warns of it; Lightning still passes it.
    logger._wandb_init.pop("anonymous", None)
    return logger
