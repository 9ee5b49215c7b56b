"""Train every system for a few steps, as one of several processes; a process of its own, started by tests.

    python rehearse_in_parts.py FOLDER SYSTEM …     RANK, WORLD_SIZE and so on say which one

Writes ``FOLDER/<system>-<world>.pt``: losses of each step, means over processes, and the weights in the end.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy

from talkgen.configuration import options
from talkgen.global_batch import mean_over_processes
from talkgen.rehearsal import RehearsalData, batch_shape, samples, stage_config, stage_system
from talkgen.systems.batch_norm import GlobalBatchNorms
from talkgen.systems.callbacks.seeding import SeedEachStep
from talkgen.systems.partials import accumulate_in

STEPS = 3


class Losses(Callback):
    """The loss of each step, its mean over processes."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.values.append(float(mean_over_processes(outputs["loss"].detach().float())))


def stage_of(system: str) -> str:
    """The experiment that trains a system."""
    return max((name for name in options("experiment") if system.startswith(name)), key=len)


def without_dropout(node: Any) -> None:
    """Masks are drawn by each process for itself; and plain gradient descent, since Adam blows up rounding
    where a gradient is zero."""
    for key, value in node.items():
        if key == "dropout":
            node[key] = 0.0
        elif key in ("optimizer", "discriminator_optimizer") and value is not None:
            node[key] = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.05}
        elif hasattr(value, "items"):
            without_dropout(value)


def rehearse(
    name: str, rank: int, world: int, accumulate: int = 1, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Train a system on its part of the same batches, in as many steps."""
    overrides = ["size=tiny", f"system={name}", *changes]
    cfg = stage_config(stage_of(name), overrides)
    without_dropout(cfg.system)
    parts = world * accumulate
    shape = batch_shape(cfg)
    whole = 4 * shape.group
    # counted for each process
    for key, value in (("decode_samples", None), ("decode_frames", 1000)):
        if key in cfg.system:
            cfg.system[key] = value
    if "lessons" in cfg.system:
        cfg.system.lessons.batch = 8 // parts
    seed_everything(5, verbose=False)
    system = stage_system(cfg, overrides)
    each = whole // parts
    batches = [
        samples(shape, range(step * whole + part * each, step * whole + (part + 1) * each))
        for step in range(STEPS)
        for part in range(rank, parts, world)
    ]
    losses = Losses()
    strategy: Any = "auto"
    if world > 1:
        strategy = DDPStrategy(
            cluster_environment=TorchElasticEnvironment(), find_unused_parameters=True,
            process_group_backend="gloo",
        )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", devices=world, strategy=strategy, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, plugins=[GlobalBatchNorms()] if world > 1 else None,
        accumulate_grad_batches=accumulate_in(system, accumulate),
        callbacks=[SeedEachStep(3), losses],
    )  # fmt: skip
    trainer.fit(system, datamodule=RehearsalData(batches, len(batches)))
    return {"losses": losses.values, "weights": system.state_dict()}


def main() -> None:
    """Rehearse what the command line names."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    folder, *names = sys.argv[1:]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    for name in names:
        begun = time.perf_counter()
        result = rehearse(name, rank, world)
        if rank == 0:
            torch.save(result, Path(folder) / f"{name}-{world}.pt")
            print(f"{name}: {time.perf_counter() - begun:.1f} s", flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
