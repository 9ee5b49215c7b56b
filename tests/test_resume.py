"""A training that is killed and started again is the training that was never killed, bit by bit."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from talkgen.cli import main
from talkgen.configuration import RunFolder

STEPS = 60
RHYTHM = (f"steps={STEPS}", "validate_every=7", "checkpoint_every=5", "trainer.log_every_n_steps=1")
# The adversarial term begins in the middle of the run, after the kill or before it.
EXPERIMENTS = {
    "swaptalk_vqgan": (
        "sample_every=1000",
        "size.swaptalk_vqgan.adversarial_start=30",
        "size.swaptalk_vqgan.kmeans_vectors=512",
    ),
    "sync_expert": (),
    "diff2lip_diffusion": (
        "sample_every=1000",
        "system.sync=null",
        "system.sampled_batches=0",
        "size.diff2lip_diffusion.adversarial_start=30",
    ),
}


def arguments(experiment: str, store: Path, name: str) -> list[str]:
    fixed = [
        "train",
        f"experiment={experiment}",
        "size=tiny",
        f"data.root={store}",
        "logger=csv",
        f"name={name}",
    ]
    return [*fixed, "data.workers=0", *RHYTHM, *EXPERIMENTS[experiment]]


@pytest.fixture
def one_thread():
    """Sums depend on how they are split over threads; the killed process has one, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows_of(run: RunFolder) -> list[dict[str, str]]:
    with run.metrics.open() as stream:
        rows = list(csv.DictReader(stream))
    return [{k: v for k, v in row.items() if v and not k.startswith("time/")} for row in rows]


def steps_of(run: RunFolder) -> int:
    """Steps logged so far by a process that may be writing right now."""
    if not run.metrics.is_file():
        return 0
    return sum(1 for line in run.metrics.read_text().splitlines()[1:] if line.split(",")[0].isdigit())


def kill_after(command: list[str], run: RunFolder, steps: int, number: int, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "talkgen.cli", *command],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while process.poll() is None and steps_of(run) < steps:
        time.sleep(0.005)
    process.send_signal(number)
    return process


def assert_same(a, b, place: str = "") -> None:
    """Equal structures, tensors to the bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}[{i}]")
    else:
        assert a == b, place


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_kill_9_and_resume(experiment, tiny_store, tmp_path, monkeypatch, one_thread, capsys):
    monkeypatch.chdir(tmp_path)
    whole, killed = (RunFolder(tmp_path / "runs" / name) for name in ("whole", "killed"))
    assert main(arguments(experiment, tiny_store, "whole")) == 0

    command = arguments(experiment, tiny_store, "killed")
    process = kill_after(command, killed, 23, signal.SIGKILL, tmp_path)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output
    assert killed.last.is_file()
    assert steps_of(killed) < STEPS

    assert main(command) == 0
    assert "resuming" in capsys.readouterr().out
    assert rows_of(killed) == rows_of(whole)
    a, b = (torch.load(run.last, weights_only=True) for run in (killed, whole))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "ema", "batches", "code_counts"):
        assert_same(a.get(part), b.get(part), part)


@pytest.mark.slow
def test_sigterm_saves_and_says_how_to_go_on(tiny_store, tmp_path):
    """Through the method's own process, which passes the signal on to its stage."""
    command = [
        item for item in arguments("swaptalk_vqgan", tiny_store, "stopped") if item != f"steps={STEPS}"
    ]
    command = [item.replace("experiment=swaptalk_vqgan", "experiment=swaptalk") for item in command]
    command = [item for item in command if not item.startswith("checkpoint_every")]
    run = RunFolder(tmp_path / "runs" / "stopped" / "swaptalk_vqgan")
    process = kill_after(
        [*command, "checkpoint_every=100000", "steps=100000"], run, 8, signal.SIGTERM, tmp_path
    )
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "the same command goes on from there" in output
    saved = torch.load(run.last, weights_only=True)
    assert saved["batches"] >= 8
    assert "Traceback" not in output
