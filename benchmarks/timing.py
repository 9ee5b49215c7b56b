"""What the benchmarks of networks share: how long a call takes, and what the machine could do at best."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def seconds(
    call: Callable[[], object], repeats: int, device: str = "cpu", wall: bool = False, warm: bool = True
) -> float:
    """Least time of a call.

    On a CPU it is processor time, so that what else runs on the machine counts little; on a GPU it is time by
    the wall clock until the device is idle.

    Args:
        call: what is measured.
        repeats: how often.
        device: where it works.
        wall: by the wall clock on a CPU too, for what works in threads.
        warm: call it once before.
    """
    clock = time.perf_counter if wall or device != "cpu" else time.process_time
    if warm:
        call()
    times = []
    for _ in range(repeats):
        _wait(device)
        begin = clock()
        call()
        _wait(device)
        times.append(clock() - begin)
    return min(times)


def flops(call: Callable[[], object]) -> int:
    """Multiplications and additions of a call's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def best_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Operations a second of what runs fastest: a large matrix product or a 3×3 convolution."""
    side = 1536 if device == "cpu" else 8192
    a = torch.randn(side, side, device=device).to(dtype)
    product = 2 * side**3 / seconds(lambda: a @ a, 5, device)
    conv = torch.nn.Conv2d(256, 256, 3, padding=1).to(device, dtype).to(memory_format=torch.channels_last)
    x = torch.randn(1, 256, 80, 80, device=device).to(dtype).to(memory_format=torch.channels_last)
    return max(product, 2 * 9 * 256 * 256 * 80 * 80 / seconds(lambda: conv(x), 5, device))


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
