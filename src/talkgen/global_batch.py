"""One batch in several parts: on several processes, or one after the other (``accumulate``).

What a step draws and what it divides by belong to the whole batch. Chance is drawn for all of it, and every
part takes its rows, so that parts learn what one process with the whole batch would. Where there is one
part, draws are PyTorch's own, from its global generator.

Which part this is says ``begin_step``, which ``systems.callbacks.seeding`` calls; without that there is one.
Dropout is not drawn for the whole: each part has masks of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor

Draw = Callable[[int, Generator | None], Tensor]
"""Number of samples, where chance comes from (None: PyTorch's global generator) → their random numbers."""


@dataclass
class _Step:
    """What is known of the step: which of how many parts, and the generators that all parts share."""

    part: int = 0
    parts: int = 1
    seed: int = 0
    generators: dict[torch.device, Generator] = field(default_factory=dict)


_step = _Step()


def begin_step(seed: int, part: int = 0, parts: int = 1) -> None:
    """A step begins.

    Args:
        seed: the same for all parts.
        part: which of them follows.
        parts: how many there are; 1 makes draws PyTorch's own again.
    """
    _step.seed, _step.part, _step.parts = seed, part, parts
    _step.generators.clear()


def _shared_generator(device: torch.device | str) -> Generator:
    device = torch.device(device)
    if device not in _step.generators:
        _step.generators[device] = Generator(device).manual_seed(_step.seed)
    return _step.generators[device]


def draw_rows(draw: Draw, count: int, device: torch.device | str, dim: int = 0) -> Tensor:
    """This part's rows of what is drawn for the whole batch.

    Args:
        draw: see there.
        count: samples of this part; all parts have as many.
        device: of the numbers.
        dim: axis of the samples.
    """
    if _step.parts == 1:
        return draw(count, None)
    whole = draw(_step.parts * count, _shared_generator(device))
    each = whole.shape[dim] // _step.parts
    return whole.narrow(dim, _step.part * each, each)


def draw_same(draw: Callable[[Generator | None], Tensor], device: torch.device | str) -> Tensor:
    """What is drawn once for the whole batch."""
    return draw(None if _step.parts == 1 else _shared_generator(device))


def normal_like(x: Tensor) -> Tensor:
    """Standard normal numbers of the shape of ``x``, whose first axis is that of the samples."""

    def draw(count: int, generator: Generator | None) -> Tensor:
        return torch.randn(count, *x.shape[1:], generator=generator, device=x.device, dtype=x.dtype)

    return draw_rows(draw, len(x), x.device)


def uniform(count: int, *shape: int, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Uniform numbers in [0, 1), ``(count, *shape)``."""

    def draw(number: int, generator: Generator | None) -> Tensor:
        return torch.rand(number, *shape, generator=generator, device=device, dtype=dtype)

    return draw_rows(draw, count, device)


# Across processes -------------------------------------------------------------------------------------------


def processes() -> int:
    """How many share the batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    """Rows of all processes in their order; the gradient is the sum of what all processes want."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        whole = x.new_zeros(processes() * len(x), *x.shape[1:])
        own(whole).copy_(x)
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return own(whole)


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, which have as many each; gradients flow back to where they came from.

    A loss of gathered rows is the same on every process, and the mean of the processes' gradients, which
    DDP takes, is its gradient.
    """
    if processes() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def own(whole: Tensor) -> Tensor:
    """This process's rows of what was gathered."""
    if processes() == 1:
        return whole
    return whole.chunk(processes())[dist.get_rank()]


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a tensor that needs no gradient, over processes."""
    if processes() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / processes()


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of a tensor over processes; gradients flow back to all of them."""
    if processes() == 1:
        return x
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total
