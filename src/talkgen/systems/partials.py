"""What a config gives a system to make optimisers and learning rates with (``_partial_: true``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

OptimizerPartial: TypeAlias = Callable[[Iterable[Parameter]], Optimizer]
SchedulePartial: TypeAlias = Callable[[Optimizer], LRScheduler]
"""For example ``functools.partial(warmup_cosine, steps=1000)``."""
