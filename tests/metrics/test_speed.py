"""What generating costs: hand-made costs, and a network that takes a known time."""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from talkgen.metrics.footage import Footage
from talkgen.metrics.speed import (
    EndToEndFPS,
    FirstFrameLatency,
    NetworkEvaluations,
    NetworkFPS,
    PeakMemory,
    RealTimeFactor,
)
from talkgen.metrics.stopwatch import CLEAR, GenerationCost, NetworkClock, measure_generation

COST = GenerationCost(0, 50, 25, 4.0, 2.0, 0.5, 8, 30_000_000, "cpu")


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (NetworkFPS(), 25),
        (EndToEndFPS(), 12.5),
        (RealTimeFactor(), 2),
        (FirstFrameLatency(), 0.5),
        (PeakMemory(), 30),
        (NetworkEvaluations(), 8),
    ],
)
def test_columns_by_hand(metric: NetworkFPS, value: float) -> None:
    frames = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    metric.update(Footage(0, frames, frames))  # frames do not say what they cost
    assert metric.per_clip() == {}
    metric.update_cost(COST)
    assert metric.per_clip() == {0: pytest.approx(value)}


def test_what_nobody_knows_is_no_number() -> None:
    unknown = GenerationCost(0, 50, 25, 4.0, 0.0, 0.5, None, None, "cpu")
    for metric in (NetworkFPS(), PeakMemory(), NetworkEvaluations()):
        metric.update_cost(unknown)
        assert metric.compute().isnan()


class Slow(nn.Module):
    """Takes 20 ms, half of them in a module of its own."""

    def __init__(self, inner: bool = True) -> None:
        super().__init__()
        self.inner = Slow(inner=False) if inner else None

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.01)
        return x if self.inner is None else self.inner(x)


def test_only_the_outermost_module_counts() -> None:
    clock = NetworkClock("cpu")
    network = Slow()
    with clock.running():
        network(torch.zeros(1))
        time.sleep(0.05)
    network(torch.zeros(1))  # nobody is counting
    assert 0.019 < clock.seconds < 0.045


def test_a_network_that_fails_leaves_the_clock_right() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError

    clock = NetworkClock("cpu")
    with clock.running():
        with pytest.raises(ValueError):
            Broken()(torch.zeros(1))
        Slow()(torch.zeros(1))
    assert clock.seconds >= 0.019


def test_generating_is_measured_as_a_whole_and_for_its_first_frames() -> None:
    network = Slow()

    def generate(pieces: int) -> Iterator[SimpleNamespace]:
        for _ in range(pieces):
            block = mmap.mmap(-1, 40_000_000)  # never of memory that the process holds already
            for start in range(0, 40_000_000, 4096):
                block[start] = 1
            time.sleep(0.02)
            network(torch.zeros(1))
            yield SimpleNamespace(frames=torch.zeros(5, 2, 2, 3))
            block.close()

    cost = measure_generation(lambda: generate(3), lambda: generate(1), 4, 25, "cpu", 7)
    assert (cost.clip, cost.frames, cost.fps, cost.evaluations) == (4, 15, 25, 7)
    assert cost.seconds > 0.119 and 0.059 < cost.network_seconds < cost.seconds - 0.059
    assert cost.first_seconds > 0.039
    if CLEAR.exists():
        assert cost.peak_bytes is not None and cost.peak_bytes > 30e6
