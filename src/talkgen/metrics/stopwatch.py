"""What generating costs: seconds, seconds inside networks, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class GenerationCost:
    """Of generating one clip.

    Attributes:
        clip: its number.
        frames: that were made.
        fps: of the clip.
        seconds: from the clip as it lies prepared on disk to its frames.
        network_seconds: of it, inside PyTorch's modules.
        first_seconds: until the first frames are there, when they are made in the shortest pieces.
        evaluations: of the generating network for one frame, or one window of frames; None where nobody says.
        peak_bytes: on a GPU the most that was allocated, weights included; else by how much the memory of the
            process grew at most, weights excluded. None where the system does not tell.
        device: ``"cpu"`` or ``"cuda"``.
    """

    clip: int
    frames: int
    fps: float
    seconds: float
    network_seconds: float
    first_seconds: float
    evaluations: float | None
    peak_bytes: int | None
    device: str


class NetworkClock:
    """Seconds in the outermost calls of PyTorch modules, while it is in use.

    ONNX and code around modules are not in it. On a GPU each call is waited for.

    Args:
        device: where the networks run.
    """

    def __init__(self, device: str) -> None:
        self.seconds = 0.0
        self.wait = torch.cuda.synchronize if device == "cuda" else _nothing
        self._depth = 0
        self._begin = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is called inside."""
        hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        if self._depth == 0:
            self.wait()
            self._begin = time.perf_counter()
        self._depth += 1

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.wait()
            self.seconds += time.perf_counter() - self._begin


def _nothing() -> None:
    """On a CPU there is nothing to wait for."""


def measure_generation(
    generate: Callable[[], Iterator[Any]],
    generate_short: Callable[[], Iterator[Any]],
    clip: int,
    fps: float,
    device: str,
    evaluations: float | None = None,
) -> GenerationCost:
    """Generate a clip twice: as a whole, and its first frames in short pieces.

    Args:
        generate: begins to generate; pieces have ``frames``.
        generate_short: the same in the shortest pieces that the method makes.
        clip, fps, device, evaluations: see ``GenerationCost``.
    """
    wait = torch.cuda.synchronize if device == "cuda" else _nothing
    wait()
    begin = time.perf_counter()
    next(iter(generate_short()))
    wait()
    first = time.perf_counter() - begin
    rest = _begin_memory(device)
    clock = NetworkClock(device)
    with clock.running():
        begin = time.perf_counter()
        frames = sum(len(piece.frames) for piece in generate())
        wait()
        seconds = time.perf_counter() - begin
    peak = _peak_memory(device)
    used = None if peak is None or rest is None else peak - rest
    return GenerationCost(clip, frames, fps, seconds, clock.seconds, first, evaluations, used, device)


def _begin_memory(device: str) -> int | None:
    """Forget the peak so far; bytes that the peak is counted from."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return 0
    try:
        CLEAR.write_text("5")
    except OSError:  # no Linux, or not allowed
        return None
    return _status("VmRSS")


def _peak_memory(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(name: str) -> int | None:
    """A line of the process's status, in bytes."""
    if not STATUS.is_file():
        return None
    lines = (line.split() for line in STATUS.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words and words[0] == f"{name}:"), None)
