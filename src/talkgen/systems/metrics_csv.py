"""A run's numbers as a table on disk."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from talkgen.data.files import write_atomically


class MetricsCSV(Logger):
    """``metrics.csv``: one row a logged step, one column a key, written at once and kept across restarts.

    ``step`` is the index of the batch, from 0. A key that appears later becomes a further column.

    Args:
        file: the table; rows of an earlier process of the same run are kept.
    """

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        self.file = Path(file)
        self.columns: list[str] = []
        if self.file.is_file():
            with self.file.open(newline="") as stream:
                self.columns = next(csv.reader(stream), [])

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.file.parent.name

    @property
    def version(self) -> str:
        """A run has one table."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Settings are in ``config.yaml``, not here."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": step, **{key: value for key, value in metrics.items() if key != "epoch"}}
        new = [key for key in row if key not in self.columns]
        if new:
            self._rewrite(self._rows(), self.columns + new)
        with self.file.open("a", newline="") as stream:
            csv.DictWriter(stream, self.columns).writerow(row)

    @rank_zero_only
    def keep_before(self, step: int) -> None:
        """Drop rows of ``step`` and later: a run that resumes from an older checkpoint writes them again."""
        if self.columns:
            self._rewrite([row for row in self._rows() if _number(row["step"]) < step], self.columns)

    def _rows(self) -> list[dict[str, str]]:
        if not self.file.is_file():
            return []
        with self.file.open(newline="") as stream:
            # A process that was killed while writing leaves half a row: too short, or without a step.
            rows = [row for row in csv.DictReader(stream) if None not in row.values() and row.get("step")]
        return rows

    def _rewrite(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.file, table.getvalue().encode())
        self.columns = columns


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
