"""How far a run is, how fast it goes, and how long it waits for data."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class RunProgressBar(TQDMProgressBar):
    """One bar over the whole run, with the time that is left.

    Args:
        title: what is trained.
        refresh_rate: batches between two updates; where the output is no terminal it is a tenth of the run.
    """

    def __init__(self, title: str, refresh_rate: int = 5) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)
        self.title = title

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Begin the bar where the run stands."""
        super().on_train_epoch_start(trainer)
        if not sys.stderr.isatty() and not sys.stdout.isatty():
            self._refresh_rate = max(1, int(trainer.num_training_batches) // 10)
        self.train_progress_bar.set_description(self.title)
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # tqdm takes the rate from (n - initial): batches of an earlier process took no time in this one.
        self.train_progress_bar.initial = done
        self.train_progress_bar.n = done

    def init_validation_tqdm(self) -> Tqdm:
        """No second bar that comes and goes below the first."""
        return Tqdm(disable=True)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The logged numbers, without Lightning's version number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {key: value for key, value in metrics.items() if key != "v_num"}


class Throughput(Callback):
    """Log ``time/windows_per_second`` and ``time/loader_wait``, the share of time spent waiting for data.

    Time spent in validation, samples and checkpoints is left out of both.
    """

    def __init__(self) -> None:
        self._mark: float | None = None
        self._waited = 0.0
        self._worked = 0.0
        self._windows = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The loader has delivered."""
        now = time.perf_counter()
        if self._mark is not None:
            self._waited += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is done."""
        now = time.perf_counter()
        self._worked += now - (self._mark or now)
        self._windows += len(batch["clip"]) * trainer.world_size
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            total = self._waited + self._worked
            rates = {
                "time/windows_per_second": self._windows / max(total, 1e-9),
                "time/loader_wait": self._waited / max(total, 1e-9),
            }
            pl_module.log_dict(rates, batch_size=1)
            self._waited = self._worked = 0.0
            self._windows = 0
        self._mark = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is not waiting for data."""
        self._mark = time.perf_counter()
