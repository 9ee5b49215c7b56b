"""What a config gives a system to make optimisers and learning rates with, and what systems make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from talkgen.errors import TalkgenError

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
    """One step of the optimiser of this number, and of its schedule, in a system that steps by itself.

    With accumulation the gradients of several batches are added up before the optimiser steps; its schedule
    counts batches all the same.
    """
    small = int(getattr(system, "accumulate", 1))
    place = system.trainer.fit_loop.epoch_loop.batch_idx if small > 1 else 0
    if place % small == 0:
        optimizer.zero_grad()
    system.manual_backward(loss / small if small > 1 else loss)
    if (place + 1) % small == 0 or place + 1 == system.trainer.num_training_batches:
        optimizer.step()  # type: ignore[no-untyped-call]
    schedules = system.lr_schedulers()
    if schedules:
        schedule = schedules[number] if isinstance(schedules, list) else schedules
        schedule.step()  # type: ignore[call-arg]


def accumulate_in(system: LightningModule, batches: int) -> int:
    """Have a system add up the gradients of so many batches.

    Its learning rates go on counting batches.

    Returns:
        What Lightning is to do of it: 1 where the system steps by itself.
    """
    if not system.automatic_optimization:
        system.accumulate = batches  # type: ignore[assignment]
        return 1
    schedule: SchedulePartial | None = getattr(system, "learning_rate", None)
    if batches > 1 and schedule is not None:

        def once_in(optimizer: Optimizer) -> LRScheduler:
            return _every(schedule(optimizer), batches)

        system.learning_rate = once_in  # type: ignore[assignment]
    return batches


def _stretched(rate: Callable[[int], float], batches: int, step: int) -> float:
    return rate(step * batches)


def _every(schedule: LRScheduler, batches: int) -> LRScheduler:
    """The same schedule, stepped once in so many batches."""
    if isinstance(schedule, LambdaLR):
        rates = schedule.lr_lambdas
        schedule.lr_lambdas = [partial(_stretched, rate, batches) for rate in rates]
    return schedule


def refuse_sharding(system: LightningModule, trainer: Trainer) -> None:
    """Say which strategies would train a system wrongly.

    Raises:
        TalkgenError: the strategy shards parameters.
    """
    if isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy):
        millions = sum(p.numel() for p in system.parameters() if p.requires_grad) / 1e6
        raise TalkgenError(
            f"{type(system).__name__} cannot be trained with sharded parameters: clipping by norm, averaged "
            "weights, and steps that call parts of a network need them whole, and Lightning's sharding would "
            f"do those wrongly. Its {millions:.0f} million trained parameters fit on any GPU: take "
            "trainer=ddp, and where memory is short precision=bf16-mixed, checkpointing=true or accumulate=2 "
            "with half the batch"
        )


def accumulation(trainer: Trainer, system: LightningModule) -> int:
    """Batches whose gradients are added up for a step of an optimiser.

    Lightning refuses ``accumulate_grad_batches`` for systems that step by themselves; those say it by an
    attribute, which ``talkgen.training`` sets.
    """
    if system.automatic_optimization:
        return trainer.accumulate_grad_batches
    return int(getattr(system, "accumulate", 1))
