"""Checkpoints every N batches, at the best validation, and when the process is asked to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from talkgen.data.files import write_atomically
from talkgen.systems.metrics_csv import MetricsCSV
from talkgen.systems.partials import accumulation

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """Training was asked to stop, and has saved a checkpoint.

    Args:
        signum: the signal that asked.
        batches: batches done.
    """

    def __init__(self, signum: int, batches: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after {batches} batches")
        self.signum = signum
        self.batches = batches


class CheckpointEvery(Callback):
    """``last.ckpt`` every N batches, at the end, on SIGTERM and on Ctrl-C; ``best.ckpt`` by a metric.

    Files are written beside their place and renamed, so a process that dies while saving leaves the previous
    checkpoint whole. ``last.ckpt`` takes its name when all else that belongs to its batch is on disk: the row
    of ``metrics.csv``, samples, the validation. A run that dies in between goes on from the one before, and
    makes them. A second Ctrl-C stops at once.

    Args:
        folder: the run's ``checkpoints`` folder.
        every: batches between two checkpoints.
        monitor: key of a validation metric; None keeps no best.
        mode: ``"max"`` or ``"min"``: which values of ``monitor`` are better.
        keep_every: batches between checkpoints that are kept for good, a multiple of ``every``; 0 keeps none.
    """

    def __init__(
        self,
        folder: str | Path,
        every: int,
        monitor: str | None = None,
        mode: str = "max",
        keep_every: int = 0,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 batch, not {every}")
        if mode not in ("max", "min"):
            raise ValueError(f"mode is 'max' or 'min', not {mode!r}")
        if keep_every % every:
            raise ValueError(f"keep_every ({keep_every}) must be a multiple of every ({every})")
        self.folder = Path(folder)
        self.every = every
        self.monitor = monitor
        self.mode = mode
        self.keep_every = keep_every
        self.best: float | None = None
        self._signal: int | None = None
        self._waiting: int | None = None  # batches of the checkpoint that has no name yet
        self._stopping = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what came after the checkpoint that this process resumes from; listen for signals."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.keep_before(done)
        if self.folder.is_dir() and (self.folder / "best.json").is_file():
            held = json.loads((self.folder / "best.json").read_text())
            if held["batches"] <= done and held["monitor"] == self.monitor:
                self.best = held["value"]
        if done and trainer.is_global_zero:  # of a process that died right after it saved
            self._keep_for_good(done, anew=False)
        for number in STOP_SIGNALS:
            self._handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, or when asked to stop."""
        done = batch_idx + 1
        stop = self._signal is not None
        if trainer.world_size > 1:
            # A signal may reach one process only; all must save and stop after the same batch.
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        stop = stop and done % accumulation(trainer, pl_module) == 0  # a checkpoint holds no gradients
        if stop or done % self.every == 0 or done == trainer.num_training_batches:
            self._write(trainer, _beside(self.folder / "last.ckpt"))
            self._waiting = done
        if stop:
            self._stopping = True
            self._give_name(trainer)  # who asks to stop may not wait for a validation

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """All of the batch before this one is on disk."""
        self._give_name(trainer)
        if self._stopping:
            raise Interrupted(self._signal or signal.SIGTERM, batch_idx)

    def _give_name(self, trainer: Trainer) -> None:
        if self._waiting is not None and trainer.is_global_zero:
            _beside(self.folder / "last.ckpt").replace(self.folder / "last.ckpt")
            self._keep_for_good(self._waiting, anew=True)
        self._waiting = None

    def _keep_for_good(self, done: int, anew: bool) -> None:
        copy = self.folder / f"step-{done:07d}.ckpt"
        if self.keep_every and done % self.keep_every == 0 and (anew or not copy.exists()):
            _duplicate(self.folder / "last.ckpt", copy)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Forget how many batches the last validation had.

        Nobody asks, but Lightning counts them twice where it resumes right after a validation, and the file
        would not be that of a training that was never stopped.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["current"]
        progress |= dict.fromkeys(progress, 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best."""
        value = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        if trainer.sanity_checking or value is None:
            return
        score = float(value)
        better = self.best is None or (score > self.best if self.mode == "max" else score < self.best)
        if better and score == score:
            self.best = score
            done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
            self._save(trainer, self.folder / "best.ckpt")
            if trainer.is_global_zero:
                facts = {"monitor": self.monitor, "value": score, "batches": done}
                write_atomically(self.folder / "best.json", json.dumps(facts).encode())

    def _save(self, trainer: Trainer, file: Path) -> None:
        self._write(trainer, _beside(file))
        if trainer.is_global_zero:
            _beside(file).replace(file)
        trainer.strategy.barrier("checkpoint")

    def _write(self, trainer: Trainer, file: Path) -> None:
        try:
            trainer.save_checkpoint(file)
        except BaseException:
            file.unlink(missing_ok=True)  # where the disk is full, half a checkpoint helps nobody
            raise

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the last checkpoint its name, and the signals back."""
        self._give_name(trainer)
        self._restore_handlers()


def _beside(file: Path) -> Path:
    """Where a checkpoint is written before it takes its name."""
    return file.with_suffix(".ckpt.saving")


def _duplicate(file: Path, copy: Path) -> None:
    """A second name for the same bytes, or a copy where the disk has no hard links."""
    new = _beside(copy)
    new.unlink(missing_ok=True)
    try:
        os.link(file, new)
    except OSError:
        shutil.copyfile(file, new)
    new.replace(copy)
