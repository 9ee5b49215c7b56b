"""The train command: names, refusals, finishing, methods, signals."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from omegaconf import OmegaConf

from talkgen import training, weights
from talkgen.cli import main
from talkgen.configuration import RunFolder, differences, find_runs, options, unknown_keys


@pytest.fixture
def train(tiny_store, tmp_path, monkeypatch):
    """Run the real command in this process, in an empty folder; gives the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        return main(
            [
                "train",
                "size=tiny",
                f"data.root={tiny_store}",
                "data.workers=0",
                "logger=csv",
                "trainer.log_every_n_steps=1",
                *arguments,
            ]
        )

    return run


def test_a_run_folder_tells_everything(train, tmp_path, capsys):
    assert train("experiment=swaptalk_vqgan") == 0
    run = RunFolder(tmp_path / "runs" / "swaptalk-demo" / "swaptalk_vqgan")
    facts = json.loads(run.facts.read_text())
    assert facts["finished_batches"] == 4
    assert len(facts["manifest"]) == 64
    assert {"talkgen", "torch", "lightning", "python"} <= facts["versions"].keys()
    assert OmegaConf.load(run.config).system.vqgan.channels == 8  # resolved, no reference to size left
    assert "${" not in run.config.read_text()
    assert run.last.is_file()
    assert run.best.is_file()
    assert run.metrics.is_file()
    assert {file.name for file in run.samples.iterdir()} == {
        "step-0000000-person4_clip.mp4",
        "step-0000004-person4_clip.mp4",
    }
    assert "Next: python evaluate.py" in capsys.readouterr().out
    assert find_runs(tmp_path / "runs") == [run]

    # The same command again has nothing to do, and says so without training.
    began = time.perf_counter()
    assert train("experiment=swaptalk_vqgan") == 0
    assert time.perf_counter() - began < 5
    assert "is finished (4 batches)" in capsys.readouterr().out

    # Other settings are refused by name, unless they are wanted.
    assert train("experiment=swaptalk_vqgan", "steps=6", "system.weights.l1=2") == 1
    refusal = capsys.readouterr().err
    assert "steps: 4 → 6" in refusal
    assert "system.weights.l1: 1.0 → 2" in refusal
    assert "resume_with_changes=true" in refusal
    assert train("experiment=swaptalk_vqgan", "steps=6", "resume_with_changes=true") == 0
    assert json.loads(run.facts.read_text())["finished_batches"] == 6


def test_where_a_run_writes_or_how_it_reads_may_change(train):
    assert train("experiment=sync_expert", "steps=2", "validate_every=2", "checkpoint_every=2") == 0
    assert train("experiment=sync_expert", "steps=2", "data.workers=1") == 0


def test_without_an_experiment_the_choices_are_named(train, capsys):
    assert train() == 1
    assert f"experiment={'|'.join(options('experiment'))}" in capsys.readouterr().err


def test_a_missing_corpus_is_named_with_its_cure(train, capsys, tmp_path):
    assert train("experiment=sync_expert", "data=folder", f"data.root={tmp_path}/none") == 1
    error = capsys.readouterr().err
    assert "talkgen prepare corpus=folder" in error
    assert f"{tmp_path}/none" in error


def test_only_the_demo_corpus_of_the_default_folder_is_made(train, capsys, tmp_path, monkeypatch):
    """A wrong path is a mistake, not a wish to render a corpus there."""
    made: list[list[str]] = []
    monkeypatch.setattr(training, "_run_process", lambda command: made.append(command) or 3)
    assert train("experiment=sync_expert", f"data.root={tmp_path}/wrong/demo") == 1
    error = capsys.readouterr().err
    assert f"no prepared corpus at {tmp_path}/wrong/demo" in error
    assert f"'talkgen prepare corpus=demo out={tmp_path}/wrong/demo'" in error
    assert not made
    assert train("experiment=sync_expert", "data.root=prepared/demo") == 1  # the default, said aloud
    assert "preparing the demo corpus failed (exit code 3)" in capsys.readouterr().err
    assert made[0][-2:] == ["corpus=demo", "out=prepared/demo"]


def test_a_run_keeps_the_perceptual_loss_that_it_began_with(train, capsys, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "runs" / "swaptalk-demo" / "swaptalk_vqgan")

    def go_on(*arguments: str) -> int:
        """As after a kill."""
        facts = json.loads(run.facts.read_text())
        run.facts.write_text(json.dumps({**facts, "finished_batches": 0}))
        return train("experiment=swaptalk_vqgan", *arguments)

    monkeypatch.setattr(weights, "available", lambda name: False)
    assert train("experiment=swaptalk_vqgan") == 0
    assert "talkgen weights get lpips_alex" in capsys.readouterr().out
    assert json.loads(run.facts.read_text())["perceptual"] == {"system.perceptual": "gradient_pyramid"}
    assert OmegaConf.load(run.config).system.perceptual.net == "gradient_pyramid"

    # Weights that were fetched since do not change it; another net is refused as every other setting.
    monkeypatch.setattr(weights, "available", lambda name: True)
    assert train("experiment=swaptalk_vqgan") == 0
    assert "is finished" in capsys.readouterr().out
    assert go_on() == 0
    assert OmegaConf.load(run.config).system.perceptual.net == "gradient_pyramid"

    # A run that began with LPIPS does not go on without its weights.
    OmegaConf.save(
        OmegaConf.merge(OmegaConf.load(run.config), {"system": {"perceptual": {"net": "alex"}}}), run.config
    )
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setattr(weights, "available", lambda name: False)
    assert go_on() == 1
    refusal = capsys.readouterr().err
    assert "was begun with system.perceptual.net=alex" in refusal
    assert "talkgen weights get lpips_alex" in refusal
    assert go_on("system.perceptual.net=gradient_pyramid") == 1
    assert "system.perceptual.net: alex → gradient_pyramid" in capsys.readouterr().err
    assert go_on("system.perceptual.net=gradient_pyramid", "resume_with_changes=true") == 0


def test_a_running_run_is_left_alone(train, tmp_path, capsys):
    """The lock goes with the process that holds it."""
    import fcntl

    folder = tmp_path / "runs" / "sync_expert-demo"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as file:
        file.write("process 4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert train("experiment=sync_expert") == 1
    assert "is being trained by process 4711" in capsys.readouterr().err


def test_overfitting_one_batch_lowers_its_loss(train, tmp_path):
    settings = ("steps=60", "validate_every=60", "checkpoint_every=60", "size.sync_expert.lr=5e-3")
    assert train("experiment=sync_expert", "debug=overfit", "trainer.log_every_n_steps=1", *settings) == 0
    rows = list(csv.DictReader((tmp_path / "runs/debug-overfit/metrics.csv").open()))
    losses = [float(row["train/sync"]) for row in rows if row["train/sync"]]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_help_answers_at_once(tmp_path):
    command = (
        "import resource, sys; from talkgen.cli import main\n"
        "try: main(['train', '--help'])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    seconds, torch_loaded = result.stdout.split()[-2:]
    assert f"experiment: {', '.join(options('experiment'))}" in result.stdout
    assert float(seconds) < 1
    assert torch_loaded == "False"


def test_differences_name_the_key():
    old = {"a": {"b": 1, "c": [1, 2]}, "z": 1}
    new = {"a": {"b": 2, "c": [1, 2], "d": None}, "z": 2}
    assert differences(old, new, ["a"]) == ["a.b: 1 → 2", "a.d: (absent) → None"]


def test_unknown_keys_suggest_the_nearest():
    known = OmegaConf.create(
        {"size": {"channels": 1}, "callbacks": {"ema": None}, "system": {"_target_": "x"}}
    )
    given = OmegaConf.create(
        {
            "size": {"chanels": 2},
            "callbacks": {"ema": {"_target_": "y", "anything": 1}, "more": {"_target_": "z"}},
            "system": {"_target_": "x", "anything": 1},
        }
    )
    (sentence,) = unknown_keys(given, known)
    assert "'size.chanels'" in sentence
    assert "did you mean 'channels'?" in sentence


@pytest.mark.slow
def test_a_method_runs_its_stages_and_skips_what_is_done(tiny_store, tmp_path):
    command = [
        sys.executable, "-m", "talkgen.cli", "train", "experiment=swaptalk", "size=tiny",
        f"data.root={tiny_store}", "data.workers=0", "logger=csv", "trainer.log_every_n_steps=1",
        "evaluate.clips=1", "evaluate.frames=6",
    ]  # fmt: skip
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "[1/5] swaptalk_vqgan" in first.stdout
    assert "[5/5] swaptalk_lip_sync" in first.stdout
    assert (tmp_path / "runs" / "swaptalk-demo" / "evaluation" / "table.md").is_file()
    run = RunFolder(tmp_path / "runs" / "swaptalk-demo" / "swaptalk_vqgan")
    saved = run.last.stat().st_mtime_ns
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 0
    assert "is finished" in second.stdout
    assert run.last.stat().st_mtime_ns == saved
    failing = subprocess.run(
        [*command, "name=other", "system=null"], cwd=tmp_path, capture_output=True, text=True
    )
    assert failing.returncode != 0


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tiny_store, tmp_path):
    """The same windows in the same steps; weights differ by the order of sums alone.

    Plain gradient descent: Adam would blow rounding up wherever the true gradient is zero.
    """
    descent = [
        f"{key}{rest}"
        for name in ("optimizer", "discriminator_optimizer")
        for key, rest in (
            (f"system.{name}._target_", "=torch.optim.SGD"),
            (f"~system.{name}.betas", ""),
            (f"system.{name}.lr", "=0.05"),
        )
    ]
    common = [
        sys.executable, "-m", "talkgen.cli", "train", "experiment=swaptalk_vqgan", "size=tiny", "logger=csv",
        f"data.root={tiny_store}", "data.workers=0", "trainer.log_every_n_steps=1", "sample_every=100",
        "size.swaptalk_vqgan.steps=6", "size.swaptalk_vqgan.adversarial_start=3", *descent,
        "system.augmentation=null",  # draws colours for one process's part of the batch
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    two = [*common, "name=two", "trainer=ddp_cpu", "data.batch_size=4"]
    one = [*common, "name=one", "data.batch_size=8"]
    for command in (two, one):
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    runs = [RunFolder(tmp_path / "runs" / name) for name in ("one", "two")]
    a, b = (torch.load(run.last, weights_only=True)["state_dict"] for run in runs)
    assert a.keys() == b.keys()
    moved = [key for key in a if not torch.allclose(a[key].float(), b[key].float(), rtol=1e-3, atol=1e-4)]
    assert not moved
    rows = [list(csv.DictReader(run.metrics.open())) for run in runs]
    assert len(rows[0]) == len(rows[1])  # one process writes the table


@pytest.mark.slow
def test_bfloat16(train, tmp_path):
    assert train("experiment=swaptalk_vqgan", "precision=bf16-mixed", "size.swaptalk_vqgan.steps=2") == 0
    assert train("experiment=sync_expert", "precision=bf16-mixed", "size.sync_expert.steps=2") == 0
    rows = list(csv.DictReader((tmp_path / "runs/sync_expert-demo/metrics.csv").open()))
    assert all(float(row["train/sync"]) < 10 for row in rows if row["train/sync"])


def test_automatic_precision_is_settled_once(monkeypatch):
    def settled(native: bool, begun: str | None = None, asked: str = "auto") -> str:
        monkeypatch.setattr(training, "native_bfloat16", lambda accelerator: native)
        cfg = OmegaConf.create({"precision": asked, "trainer": {"accelerator": "cpu"}})
        training.settle_precision(cfg, None if begun is None else OmegaConf.create({"precision": begun}))
        return cfg.precision

    assert settled(True) == "bf16-mixed"
    assert settled(False) == "32-true"
    assert settled(False, begun="bf16-mixed") == "bf16-mixed"
    assert settled(True, asked="64-true") == "64-true"
