"""A trained sync expert as a loss for generators of lips."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from talkgen.configuration import build
from talkgen.inference.runs import find_trained, load_network, run_config
from talkgen.losses.lip_sync import SyncLoss


def load_sync_loss(run: str | Path) -> SyncLoss:
    """The expert of a run of ``experiment=sync_expert``, shown faces as it was in training.

    Args:
        run: its folder, or a checkpoint in it.

    Raises:
        TalkgenError: there is no such run, or its network cannot be loaded.
    """
    trained = find_trained(run, "expert", "sync_expert")
    system = run_config(trained.folder).system
    return SyncLoss(
        load_network(trained.folder, "expert", trained.checkpoint),
        str(OmegaConf.select(system, "channel_order", default="bgr")),
        None if system.get("view") is None else build(system.view),
    )
