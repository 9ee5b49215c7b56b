"""Lists of runs and their pages, from run folders written by hand."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from talkgen.cli import main
from talkgen.configuration import RunFolder
from talkgen.errors import FileError
from talkgen.run_overview import find_overviews, read_curves
from talkgen.run_report import curve_chart

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "wandb_report.py"


@pytest.fixture()
def runs(tmp_path: Path) -> Path:
    for name, finished in (("swap/stage_one", 20), ("swap/stage_two", None), ("alone <b>", None)):
        folder = tmp_path / "runs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "samples").mkdir()
        (folder / "config.yaml").write_text("steps: 20\nname: 1 < 2\n")
        start = {"command": ["experiment=swap", "data.root=my data"]}
        (folder / "run.json").write_text(
            json.dumps({"experiment": Path(name).name, "finished_batches": finished, "starts": [{}, start]})
        )
        (folder / "metrics.csv").write_text(
            "step,train/l1,val/l1,time/wait\n4,0.5,,\n9,0.25,,0.1\n9,,0.75,\n14,nan,,\n14,0.125,0.5,\n"
        )
        (folder / "checkpoints" / "best.json").write_text(
            '{"monitor": "val/l1", "value": 0.5, "batches": 15}'
        )
        for step in range(0, 120, 10):
            (folder / "samples" / f"step-{step:07d}-clip #1.mp4").write_bytes(b"")
    return tmp_path / "runs"


def test_a_run_at_a_glance(runs: Path) -> None:
    found = {run.name: run for run in find_overviews(runs)}
    assert set(found) == {"swap/stage_one", "swap/stage_two", "alone <b>"}
    one, two = found["swap/stage_one"], found["swap/stage_two"]
    assert (one.state, two.state, one.step, one.steps) == ("finished", "stopped", 15, 20)
    assert one.best == ("val/l1", 0.5) and one.last == {"val/l1": 0.5}
    assert two.command == "talkgen train experiment=swap 'data.root=my data'"
    assert read_curves(one.folder)["train/l1"] == [(4, 0.5), (9, 0.25), (14, 0.125)]


def test_a_run_that_is_being_trained(runs: Path) -> None:
    with (runs / "swap" / "stage_two" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        states = {run.name: run.state for run in find_overviews(runs)}
        assert states["swap/stage_two"] == "training" and states["alone <b>"] == "stopped"
    assert {run.state for run in find_overviews(runs / "swap" / "stage_two")} == {"stopped"}


def test_the_list_and_how_to_go_on(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"swap/stage_one +stage_one +finished +15/20 +val/l1 0.5 +l1 0.5", said)
    assert said.count("talkgen train experiment=swap") == 2  # of the two that are not finished
    assert main(["runs", str(runs / "none")]) == 1
    (runs / "empty").mkdir()
    assert main(["runs", str(runs / "empty")]) == 1
    assert "holds no run" in capsys.readouterr().err


def test_damaged_runs_are_listed(runs: Path) -> None:
    folder = runs / "swap" / "stage_one"
    (folder / "run.json").write_text("{")
    (folder / "metrics.csv").unlink()
    (folder / "checkpoints" / "best.json").write_text("[]")
    run = next(run for run in find_overviews(runs) if run.name == "swap/stage_one")
    assert (run.step, run.best, run.state, run.command) == (0, None, "stopped", "talkgen train")


def test_the_page_of_a_run(runs: Path) -> None:
    assert main(["runs", str(runs), "--report"]) == 0
    page = (runs / "alone <b>" / "report.html").read_text()
    assert "<h1>alone &lt;b&gt;</h1>" in page and "name: 1 &lt; 2" in page
    assert page.count("<svg") == 2 and page.count("<polyline") == 2  # l1 of both in one chart, and the wait
    assert 'src="samples/step-0000000-clip%20%231.mp4"' in page and page.count("<video") == 8
    assert "step 110" in page
    assert not re.findall(r'(?:src|href)="(?:https?:|/)', page)


def test_a_curve() -> None:
    drawn = curve_chart({"train": [(0, 1.0), (10, 3.0)], "val": [(5, 2.0)]})
    points = re.search(r'points="([^"]+)"', drawn)
    assert points is not None and points[1] == "52.0,130.0 292.0,8.0"
    assert 'cx="172.0" cy="69.0"' in drawn and ">3</text>" in drawn and ">1</text>" in drawn
    assert "NaN" not in curve_chart({"train": [(3, 2.0), (3, 2.0)]})


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such folder"):
        find_overviews(tmp_path / "runs")
    assert read_curves(RunFolder(tmp_path)) == {}


def test_the_definition_of_the_wandb_report(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("wandb_report", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    assert module.main([str(runs), "--json", str(tmp_path / "report.json")]) == 0
    parts = json.loads((tmp_path / "report.json").read_text())
    assert [(part["method"], part["stage"]) for part in parts][1:] == [
        ("swap", "stage_one"), ("swap", "stage_two")
    ]  # fmt: skip
    assert parts[1]["charts"] == {"l1": ["train/l1", "val/l1"], "time/wait": ["time/wait"]}
    assert parts[1]["score"] == "val/l1" and parts[1]["samples"]
    assert module.main([str(runs / "none")]) == 1
    pytest.importorskip("wandb_workspaces")
    report = module.as_report(module.sections(find_overviews(runs)), "me", "talkgen")
    titles = [block.text for block in report.blocks if type(block).__name__ in ("H1", "H2")]
    assert titles == ["runs", "alone <b>", "Sweeps", "swap", "stage_one", "stage_two", "Sweeps"]
