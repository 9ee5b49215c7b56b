"""Scripts as modules, and a talkgen that trains in no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

SCRIPTS = str(Path(__file__).resolve().parents[2] / "scripts")
if SCRIPTS not in sys.path:  # they import each other, as Python lets a script do that is called
    sys.path.insert(0, SCRIPTS)

RowsOf = Callable[[int], Mapping[str, Mapping[str, float | None]]]
RESULTS = {"disenttalk_disentangle": "disentangled.json"}


class Commands:
    """In place of talkgen: leaves behind what training or evaluation does, and keeps what it was told.

    Attributes:
        rows: seed → row → column → value of the tables that it makes.
        columns: column → which way is better.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.given: list[tuple[str, ...]] = []
        self.rows: RowsOf = lambda seed: {}
        self.columns: dict[str, bool | None] = {}

    def __call__(self, command: str, *arguments: str) -> None:
        self.given.append((command, *arguments))
        values = dict(argument.split("=", 1) for argument in arguments)
        if command == "train":
            file = RESULTS.get(Path(values["name"]).name, "checkpoints/last.ckpt")
            place = self.runs / values["name"] / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():  # a finished run is left as it is
                place.touch()
            return
        out = self.runs / values["run"] / "evaluation"
        out.mkdir(exist_ok=True)
        rows = self.rows(int(values["run"][-1]))
        content = {
            "columns": [{"name": n, "higher_is_better": better} for n, better in self.columns.items()],
            "rows": [
                {"name": name, "cells": {n: {"value": value} for n, value in cells.items()}}
                for name, cells in rows.items()
            ],
        }
        (out / "table.json").write_text(json.dumps(content))

    def trained(self, prefix: str = "") -> list[str]:
        """Names of what was trained, without that of the ablation and without the prefix of stages."""
        names = [given[2] for given in self.given if given[0] == "train"]
        return [name.removeprefix("name=ab/").replace(prefix, "") for name in names]

    def scored(self) -> int:
        """How often something was scored."""
        return sum(given[0] == "evaluate" for given in self.given)


@pytest.fixture()
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    import ablation

    made = Commands(tmp_path)
    monkeypatch.setattr(ablation, "talkgen", made)
    return made
