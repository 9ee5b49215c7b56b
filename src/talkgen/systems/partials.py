"""What a config gives a system to make optimisers and learning rates with, and what systems make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

OptimizerPartial: TypeAlias = Callable[[Iterable[Parameter]], Optimizer]
SchedulePartial: TypeAlias = Callable[[Optimizer], LRScheduler]
"""For example ``functools.partial(warmup_cosine, steps=1000)``."""


def with_schedule(optimizer: Optimizer, learning_rate: SchedulePartial | None) -> Any:
    """What ``configure_optimizers`` returns of one optimiser: its learning rate changes after every batch.

    Args:
        optimizer: the only one of the system, stepped by Lightning.
        learning_rate: makes the schedule; None keeps the rate constant.
    """
    if learning_rate is None:
        return optimizer
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": learning_rate(optimizer), "interval": "step"},
    }


def with_schedules(
    optimizers: Sequence[Optimizer], learning_rate: SchedulePartial | None
) -> tuple[list[Optimizer], list[LRScheduler]]:
    """The same of a system that steps its optimisers itself, by ``manual_step``."""
    schedules = [] if learning_rate is None else [learning_rate(optimizer) for optimizer in optimizers]
    return list(optimizers), schedules


def manual_step(system: LightningModule, number: int, optimizer: LightningOptimizer, loss: Tensor) -> None:
    """One step of the optimiser of this number, and of its schedule, in a system that steps by itself."""
    optimizer.zero_grad()
    system.manual_backward(loss)
    optimizer.step()  # type: ignore[no-untyped-call]
    schedules = system.lr_schedulers()
    if schedules:
        schedule = schedules[number] if isinstance(schedules, list) else schedules
        schedule.step()  # type: ignore[call-arg]
