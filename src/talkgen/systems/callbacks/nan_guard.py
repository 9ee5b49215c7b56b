"""Stop before a number that is not finite reaches the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError


class NaNGuard(Callback):
    """Raise before an optimiser steps along a gradient that is not finite, and name the batch.

    The weights in memory and every checkpoint are then still sound. With fp16 the gradient scaler skips such
    steps by itself (they are how it finds its scale), so there only the loss is looked at.

    Args:
        folder: where ``nan.json`` with the batch's clips and frames is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._batch: Any = None
        self._index = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch."""
        self._batch, self._index = batch, batch_idx

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Look at the gradients that the optimiser is about to use."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = [
            p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        if gradients and not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
            names = [
                name
                for name, parameter in pl_module.named_parameters()
                if parameter.grad is not None and not parameter.grad.isfinite().all()
            ]
            self._stop(trainer, f"the gradient of {names[0]} and {len(names) - 1} more parameters")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and not loss.isfinite().all():
            self._stop(trainer, "the loss")
        self._batch = None

    def _stop(self, trainer: Trainer, what: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / ("nan.json" if trainer.global_rank == 0 else f"nan-{trainer.global_rank}.json")
        batch = self._batch if isinstance(self._batch, dict) else {}
        ranges = {
            key: [float(value.min()), float(value.max()), bool(value.isfinite().all())]
            for key, value in batch.items()
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel()
        }
        dump = {
            "step": self._index,
            "not_finite": what,
            "clips": list(batch.get("clip", [])),
            "frames": [int(frame) for frame in batch.get("frame", [])],
            "lowest_highest_finite": ranges,
        }
        write_atomically(file, json.dumps(dump, indent=1).encode())
        raise TalkgenError(
            f"{what} is not finite at step {self._index}; nothing was saved from this step. The clips of the "
            f"batch are in {file}. The same command resumes from the last checkpoint; if it happens again at "
            "this step, look at those clips, lower the learning rate or train in 32-true"
        )
