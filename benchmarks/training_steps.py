"""Where a training step's time goes, for every stage: waiting for a batch, forward, backward, optimisers,
experts, metrics, logging; and how near the whole comes to the machine's best rate.

    python benchmarks/training_steps.py                             # every stage, demo size, on the CPU
    python benchmarks/training_steps.py --size paper --device cuda --precision bf16 --compile
    python benchmarks/training_steps.py --stages diff2lip_diffusion --batch 16 --checkpointing
    python benchmarks/training_steps.py --write                     # keeps the table in docs/performance

Networks of earlier stages, experts and perceptual nets have random weights and batches are noise
(``talkgen.rehearsal``): neither corpus nor downloads are needed, and no time depends on either. Each stage is
as far into its run that every term acts. The first row of a stage is its baseline (eager, in the precision of
``--precision``); ``--compile`` adds one, compiled in a process of its own, as far as ``--seconds`` last.

A part is what the device does in it: processor time on a CPU, time between events on a GPU; ``experts``
are all that frozen networks do, both ways. A step is timed without these marks. Operations are those of a
step's matrix products and convolutions, both ways; the rate they are compared with is the best of a large
matrix product and a 3×3 convolution in the same run and precision.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import queue
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from document import keep, machine
from lightning.pytorch import Callback, LightningModule, Trainer
from timing import best_rate
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from talkgen.configuration import build, options
from talkgen.errors import TalkgenError
from talkgen.models.frozen import Frozen
from talkgen.rehearsal import RehearsalData, batch_shape, frames_of, samples, stage_config, stage_system
from talkgen.systems.checkpointing import checkpoint_networks
from talkgen.systems.compilation import compile_networks

PARTS = ("loader", "forward", "backward", "experts", "metrics", "optimizer", "averages", "logging", "rest")
METRICS = ("psnr", "seam", "sync_accuracy", "shifted_cosines", "every_cosine")
FIRST = (  # what matters most comes first, should time run out
    "diff2lip_diffusion", "swaptalk_vqgan", "disenttalk_renderer", "disenttalk_motion", "swaptalk_lip_sync",
    "swaptalk_face_swap", "sync_expert",
)  # fmt: skip
READY = "ready to measure"
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass
class Row:
    """A stage in one mode.

    Attributes:
        stage, mode: names.
        batch: samples of a step.
        frames: frames of a step.
        seconds: of a step.
        operations: of a step, multiplications and additions.
        memory: most bytes on the GPU; 0 on a CPU.
        shares: part → share of the step.
    """

    stage: str
    mode: str
    batch: int
    frames: int
    seconds: float
    operations: int
    memory: int
    shares: dict[str, float]


class Clock:
    """Time by parts: each moment belongs to the innermost part that has begun and not ended."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.on = False
        self.open = ["rest"]
        self.marks: list[tuple[str, Any]] = []  # (part that ends here, moment)

    def _moment(self) -> Any:
        if not self.cuda:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def begin(self, part: str) -> None:
        """A part begins."""
        if self.on:
            self.marks.append((self.open[-1], self._moment()))
            self.open.append(part)

    def end(self, part: str) -> None:
        """It ends; what is not open cannot."""
        if self.on and self.open[-1] == part:
            self.marks.append((self.open.pop(), self._moment()))

    def start(self) -> None:
        """Forget, and measure from here on."""
        self.on, self.open, self.marks = True, ["rest"], [("", self._moment())]

    def stop(self) -> dict[str, float]:
        """Share of each part."""
        self.marks.append((self.open[-1], self._moment()))
        self.on = False
        if self.cuda:
            torch.cuda.synchronize()
        spent: dict[str, float] = defaultdict(float)
        for (_, before), (part, after) in zip(self.marks, self.marks[1:], strict=False):
            spent[part] += before.elapsed_time(after) if self.cuda else after - before
        total = sum(spent.values())
        return {part: spent[part] / total for part in PARTS}

    def timed(self, owner: Any, name: str, part: str) -> None:
        """Count the calls of a method or function to a part."""
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            self.begin(part)
            try:
                return inner(*args, **kwargs)
            finally:
                self.end(part)

        setattr(owner, name, outer)

    def watch_expert(self, module: torch.nn.Module, part: str) -> None:
        """Count a module's work to a part, forward and backward."""

        def before(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            self.begin(part)
            grown = tuple(
                a.view_as(a) if isinstance(a, Tensor) and a.requires_grad and torch.is_grad_enabled() else a
                for a in args
            )
            for new, old in zip(grown, args, strict=True):
                if new is not old:  # backward has come through the module when it arrives here
                    new.register_hook(lambda gradient: self.end(part))
            return grown

        def after(_: Any, args: Any, output: Any) -> None:
            for value in output if isinstance(output, tuple) else (output,):
                if isinstance(value, Tensor) and value.requires_grad:
                    value.register_hook(lambda gradient: self.begin(part))
            self.end(part)

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)


class TimedData(RehearsalData):
    """Batches whose way to the device is counted as waiting for the loader."""

    clock: Clock

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy."""
        self.clock.begin("loader")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Convert."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        self.clock.end("loader")
        return batch


class Measure(Callback):
    """Count operations in the first step, then time some steps, then mark the parts of as many.

    Args:
        clock: marks them.
        warm: steps before.
        steps: of each kind.
        prepare: called after the first step.
        when_ready: called when it is warm; nothing is then marked.
    """

    def __init__(
        self,
        clock: Clock,
        warm: int,
        steps: int,
        prepare: Callable[[], None],
        when_ready: Callable[[], None] | None = None,
    ) -> None:
        self.clock, self.warm, self.steps = clock, warm, steps
        self.prepare, self.when_ready = prepare, when_ready
        self.counter = FlopCounterMode(display=False)
        self.operations = 0
        self.seconds = 0.0
        self.shares: dict[str, float] = {}
        self._begun = 0.0

    def _now(self) -> float:
        if not self.clock.cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The first step is counted."""
        if batch_idx == 0:
            self.counter.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """On to the next phase."""
        if batch_idx == 0:
            self.counter.__exit__(None, None, None)
            self.operations = self.counter.get_total_flops()
            self.prepare()
        elif batch_idx + 1 == self.warm:
            if self.when_ready is not None:
                self.when_ready()
            if self.clock.cuda:
                torch.cuda.reset_peak_memory_stats()
            self._begun = self._now()
        elif batch_idx + 1 == self.warm + self.steps:
            self.seconds = (self._now() - self._begun) / self.steps
            if self.when_ready is None:
                self.clock.start()
        elif batch_idx + 1 == self.warm + 2 * self.steps:
            self.shares = self.clock.stop()


def measure_stage(
    stage: str,
    overrides: Sequence[str],
    device: str,
    precision: str,
    checkpointing: bool = False,
    batch: int | None = None,
    steps: int = 10,
    when_ready: Callable[[], None] | None = None,
) -> Row:
    """Train a stage for some steps.

    Args:
        stage: an experiment that trains a network.
        overrides: of its config.
        device: ``cpu`` or ``cuda``.
        precision: Lightning's.
        checkpointing: recompute activations.
        batch: samples; None: the config's.
        steps: that are timed; as many more are taken apart.
        when_ready: called when the networks are compiled and warm; None: they are not compiled.
    """
    torch.manual_seed(0)
    compiled = when_ready is not None
    cfg = stage_config(stage, overrides)
    system = stage_system(cfg, overrides)
    if checkpointing:
        checkpoint_networks(system)
    shape = batch_shape(cfg)
    size = batch or int(cfg.data.batch_size)
    size = -(-size // shape.group) * shape.group
    clock = Clock(device)
    warm = 4
    batches = [samples(shape, range(size * n, size * (n + 1))) for n in range(2)]
    data = TimedData(batches, warm + (1 if compiled else 2) * steps)
    data.clock = clock

    def prepare() -> None:
        if compiled:
            compile_networks(system)

    counted = Measure(clock, warm, steps, prepare, when_ready)
    callbacks: list[Callback] = [counted]
    if cfg.callbacks.get("ema") is not None:
        ema = build(cfg.callbacks.ema)
        clock.timed(ema, "on_train_batch_end", "averages")
        callbacks.insert(0, ema)
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_epochs=1, precision=precision,  # type: ignore[arg-type]
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=10, callbacks=callbacks,
    )  # fmt: skip
    if not compiled:  # marks would cut what is compiled into pieces
        mark_parts(system, trainer, clock)
    trainer.fit(system, datamodule=data)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    mode = ", ".join(
        [next(name for name, long in PRECISIONS.items() if long == precision)]
        + ["compiled"] * compiled
        + ["checkpointing"] * checkpointing
    )
    frames = frames_of(batches[0])
    return Row(stage, mode, size, frames, counted.seconds, counted.operations, memory, counted.shares)


def mark_parts(system: LightningModule, trainer: Trainer, clock: Clock) -> None:
    """Have every part of a step counted as what it is."""
    clock.timed(system, "training_step", "forward")
    clock.timed(trainer.strategy, "backward", "backward")
    clock.timed(trainer.strategy, "optimizer_step", "optimizer")
    for name in ("log", "log_dict"):
        clock.timed(system, name, "logging")
    for kind in type(system).__mro__:
        module = sys.modules[kind.__module__]
        for name in METRICS if kind.__module__.startswith("talkgen.systems.") else ():
            if hasattr(module, name):
                clock.timed(module, name, "metrics")
    if hasattr(system, "round_teacher"):
        clock.timed(system.round_teacher, "denoise", "experts")
    if hasattr(system, "code_use"):
        for name in ("update", "compute"):
            clock.timed(system.code_use, name, "metrics")
    for frozen in [module for module in system.modules() if isinstance(module, Frozen)]:
        for expert in (frozen, frozen.module, *frozen.module.children()):
            clock.watch_expert(expert, "experts")


def as_table(rows: Sequence[Row], rate: float) -> list[str]:
    """Markdown; a stage's first row is what the others are compared with."""
    lines = [
        "| stage | mode | batch | ms a step | frames/s | times faster | GFLOP a step | of the best rate "
        "| memory, GB | " + " | ".join(f"{part}, %" for part in PARTS) + " |",
        "|---|---|" + "---:|" * (7 + len(PARTS)),
    ]
    first: dict[str, float] = {}
    for row in rows:
        base = first.setdefault(row.stage, row.seconds / row.frames)
        shares = " | ".join(f"{100 * row.shares[part]:.1f}" if row.shares else "–" for part in PARTS)
        speed = row.frames / row.seconds
        memory = f"{row.memory / 1e9:.1f}" if row.memory else "–"
        lines.append(
            f"| {row.stage} | {row.mode} | {row.batch} | {1e3 * row.seconds:.1f} | {speed:.1f} "
            f"| {base * speed:.2f} | {row.operations / 1e9:.1f} "
            f"| {row.operations / row.seconds / rate:.0%} | {memory} | {shares} |"
        )
    return lines


class Child:
    """A stage that compiles in a process of its own, says when it is ready, and is then told to measure."""

    def __init__(self, stage: str, given: argparse.Namespace, said: queue.Queue[Child]) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--row", "--compile", "--stages", stage]
        for name in ("size", "device", "precision", "steps", *(["batch"] if given.batch else [])):
            command += [f"--{name}", str(getattr(given, name))]
        command += ["--checkpointing"] * given.checkpointing
        command += [f"--override={item}" for item in given.override]
        self.stage = stage
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def _listen(self, said: queue.Queue[Child]) -> None:
        """Report readiness, or an end before it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == READY:
                break
        else:
            self.process.wait()
        said.put(self)

    def row(self, seconds: float) -> Row | str:
        """The row, or why there is none."""
        if self.process.poll() is not None:
            return self._cause()
        try:
            out, _ = self.process.communicate("go\n", timeout=max(seconds, 1))
        except subprocess.TimeoutExpired:
            return self.stop("did not end in the time that was left")
        return (
            Row(**json.loads(out.strip().splitlines()[-1])) if not self.process.returncode else self._cause()
        )

    def stop(self, cause: str) -> str:
        """End it."""
        self.process.kill()
        self.process.wait()
        return cause

    def _cause(self) -> str:
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or ["no word of why"])[-1]


def compiled_rows(
    wanted: Sequence[str],
    given: argparse.Namespace,
    left: Callable[[], float],
    report: Callable[[Row | str], None],
) -> None:
    """Compile stages side by side; when all are ready, or time is short, measure one after the other.

    Args:
        wanted: stages.
        given: the command's arguments.
        left: seconds that are left.
        report: takes each row, or why there is none.
    """
    said: queue.Queue[Child] = queue.Queue()
    waiting, compiling, ready = list(wanted), set[Child](), list[Child]()
    needed = 4.0 if given.device == "cuda" else 15.0  # to measure a stage and end its process
    while waiting or compiling:
        while waiting and len(compiling) < given.jobs:
            compiling.add(Child(waiting.pop(0), given, said))
        try:
            child = said.get(timeout=max(0.1, left() - needed * (len(ready) + 1)))
        except queue.Empty:
            break
        compiling.discard(child)
        ready.append(child)
    for child in compiling:
        report(f"{child.stage}, compiled: {child.stop('was still compiling when time was up')}")
    for stage in waiting:
        report(f"{stage}, compiled: no time was left")
    for child in ready:
        made = child.row(max(left(), needed) + 10)
        report(f"{child.stage}, compiled: {made}" if isinstance(made, str) else made)


def stages() -> list[str]:
    """Every experiment that trains a network of its own, the most important ones first."""
    found = []
    for name in options("experiment"):
        try:
            stage_config(name)
        except TalkgenError:
            continue
        if name != "evaluation_sync_expert":  # a second sync_expert
            found.append(name)
    return sorted(found, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="demo", help="of configs/size")
    parser.add_argument("--stages", nargs="*", help="experiments; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--batch", type=int, help="samples of a step; default: the config's")
    parser.add_argument("--steps", type=int, default=10, help="that are timed, and as many again taken apart")
    parser.add_argument("--compile", action="store_true", help="a second row of each stage, compiled")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument(
        "--jobs", type=int, help="stages that compile at a time; default: 4 beside a GPU, else 1"
    )
    parser.add_argument("--seconds", type=float, default=230, help="begin nothing after so many")
    parser.add_argument("--override", action="append", default=[], help="of the configs, KEY=VALUE")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    begun = time.perf_counter()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    if given.device == "cpu":
        torch.set_num_threads(1)
    given.jobs = given.jobs or (4 if given.device == "cuda" else 1)
    overrides = [f"size={given.size}", *given.override]
    precision = PRECISIONS[given.precision]
    wanted = given.stages or stages()
    if given.row:

        def when_ready() -> None:
            if given.device == "cuda":
                torch.cuda.empty_cache()
            print(READY, flush=True)
            sys.stdin.readline()

        row = measure_stage(
            wanted[0],
            overrides,
            given.device,
            precision,
            given.checkpointing,
            given.batch,
            given.steps,
            when_ready,
        )
        print(json.dumps(asdict(row)))
        return
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[given.precision]
    rate = best_rate(dtype, given.device)
    print(f"{machine(given.device)}; best rate in {given.precision}: {rate / 1e12:.3f} TFLOP/s", flush=True)
    rows: list[Row] = []
    missing: list[str] = []

    def left() -> float:
        return float(given.seconds - (time.perf_counter() - begun))

    def report(made: Row | str) -> None:
        if isinstance(made, str):
            missing.append(made)
        else:
            rows.append(made)
        print(made if isinstance(made, str) else as_table([made], rate)[-1], flush=True)

    for stage in wanted:
        if left() < 5:
            report(f"{stage}: no time was left")
            continue
        try:
            report(
                measure_stage(
                    stage, overrides, given.device, precision, given.checkpointing, given.batch, given.steps
                )
            )
        except (RuntimeError, TalkgenError) as error:  # out of memory, mostly
            report(f"{stage}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
        gc.collect()
        if given.device == "cuda":
            torch.cuda.empty_cache()
    if given.compile:
        compiled_rows(wanted, given, left, report)
    rows.sort(key=lambda row: wanted.index(row.stage))
    text = "\n".join(as_table(rows, rate))
    notes = "\n".join(f"* {line}" for line in missing)
    print(f"\n{text}\n{notes}\n{time.perf_counter() - begun:.0f} s", flush=True)
    if given.write:
        write(given, rate, text, notes)


def write(given: argparse.Namespace, rate: float, table: str, notes: str) -> None:
    """Keep the table."""
    lines = [
        f"Size {given.size}. Best rate in {given.precision}: {rate / 1e12:.3f} TFLOP/s.\n",
        table,
        f"\n{notes}\n" if notes else "",
    ]
    keep("training_steps", "Where a training step's time goes", "\n".join(lines), device=given.device)


if __name__ == "__main__":
    main()
