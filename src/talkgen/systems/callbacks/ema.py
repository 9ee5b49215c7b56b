"""An exponential moving average of the weights, used for validation and kept in checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import Parameter

from talkgen.systems.partials import accumulation


class EMA(Callback):
    """θ̄ ← d θ̄ + (1 − d) θ after every batch, with d = min(decay, (1 + n) / (10 + n)) at the n-th.

    Only parameters that are trained are averaged. Buffers, and parameters named in ``copied``, stay as they
    are: a codebook that follows the encoder by its own moving average is not averaged a second time, or it
    would lag behind the encoder it belongs to.

    Validation runs on the averages. Checkpoints hold them as ``checkpoint["ema"]``, under the keys of the
    ``state_dict``.

    Args:
        modules: attributes of the system whose parameters are averaged.
        decay: weight of the past.
        copied: parts of parameter names which are left out, for example ``quantizer``.
    """

    def __init__(self, modules: Sequence[str], decay: float = 0.999, copied: Sequence[str] = ()) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), not {decay}")
        self.modules = tuple(modules)
        self.decay = decay
        self.copied = tuple(copied)
        self.averages: dict[str, Tensor] = {}
        self.updates = 0

    def _averaged(self, system: LightningModule) -> Iterator[tuple[str, Parameter]]:
        for module in self.modules:
            for name, parameter in getattr(system, module).named_parameters(prefix=module):
                if parameter.requires_grad and not any(part in name for part in self.copied):
                    yield name, parameter

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the weights themselves, or at what a checkpoint held."""
        weights = dict(self._averaged(pl_module))
        held = self.averages if self.averages.keys() == weights.keys() else {}
        self.averages = {
            name: held.get(name, parameter.detach()).to(parameter.device).clone()
            for name, parameter in weights.items()
        }

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the averages towards the weights, where these have moved."""
        if (batch_idx + 1) % accumulation(
            trainer, pl_module
        ) and batch_idx + 1 != trainer.num_training_batches:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [parameter.detach() for _, parameter in self._averaged(pl_module)]
        if weights:
            torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)
        self.updates += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averages."""
        self.swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on training the weights."""
        self.swap(pl_module)

    @torch.no_grad()
    def swap(self, system: LightningModule) -> None:
        """Exchange weights and averages."""
        if not self.averages:
            return
        for name, parameter in self._averaged(system):
            weight = parameter.detach().clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(weight)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the averages beside the weights."""
        checkpoint["ema"] = dict(self.averages)
        checkpoint["ema_updates"] = self.updates

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the averages up again."""
        self.averages = dict(checkpoint.get("ema", {}))
        self.updates = checkpoint.get("ema_updates", 0)
