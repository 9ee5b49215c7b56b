"""Jobs of a cluster, sent to submitit's own processes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talkgen import submission
from talkgen.submission import INSIDE, Job, Training


def test_what_slurm_is_asked_for():
    job = Job("jobs", nodes=2, gpus=4, hours=1.5, partition="gpu", memory_gb=64, more={"slurm_account": "me"})
    asked = job.parameters()
    assert asked["nodes"] == 2
    assert asked["tasks_per_node"] == asked["slurm_gpus_per_node"] == 4
    assert asked["timeout_min"] == 90
    assert asked["slurm_account"] == "me"
    assert asked["slurm_signal_delay_s"] >= 60
    assert not any(key.startswith("slurm") for key in Job("jobs", cluster="local").parameters())


def test_a_job_that_must_end_lets_its_training_save_and_is_sent_again(monkeypatch, tmp_path):
    pytest.importorskip("submitit")
    saved = tmp_path / "saved"
    program = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(saved)!r}).touch(), sys.exit(143)))\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "time.sleep(60)"
    )
    training = Training(["experiment=sync_expert"])
    training._process = subprocess.Popen([sys.executable, "-c", program])
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    again = training.checkpoint()
    assert saved.exists()
    assert training._process.returncode == 143
    assert again.function.arguments == ["experiment=sync_expert"]
    assert again.function._process is None


@pytest.mark.slow
def test_a_preempted_job_goes_on(tiny_store, tmp_path, monkeypatch):
    """The real command, a real interruption by submitit, and the run that is finished in the end."""
    pytest.importorskip("submitit")
    from submitit.core import job_environment

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv(INSIDE, raising=False)
    run = tmp_path / "runs" / "sync"
    common = [
        "experiment=sync_expert", "size=tiny", f"data.root={tiny_store}", "data.workers=0", "logger=csv",
        f"paths.runs={tmp_path / 'runs'}", "name=sync", "steps=400", "validate_every=400",
        "checkpoint_every=20",
        "trainer.log_every_n_steps=50",
    ]  # fmt: skip
    job = submission.submit(Job(str(tmp_path / "jobs"), cluster="local", gpus=1, cpus=1, hours=0.2), common)
    deadline = time.monotonic() + 240
    while not (run / "checkpoints" / "last.ckpt").is_file():
        assert time.monotonic() < deadline, job.stderr()
        time.sleep(0.1)
    # what the cluster does; submitit's own stand-in tells the parent of the task alone
    parent = job._process.pid
    task = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
    os.kill(task, job_environment.JobEnvironment._usr_sig())
    while not job.done():
        assert time.monotonic() < deadline, job.stderr()
        time.sleep(0.2)
    assert job.result() == 0
    said = job.stdout()
    assert "stopped by SIGTERM" in said
    assert f"resuming {run}" in said
    assert "is trained" in said


def test_the_command_sends_itself_once(monkeypatch, tmp_path, capsys):
    from talkgen import training
    from talkgen.cli import main

    sent = []

    class Sent:
        job_id = "17"

        class paths:
            folder = tmp_path

    monkeypatch.setattr(
        training, "submit", lambda job, arguments: sent.append((job, list(arguments))) or Sent
    )
    monkeypatch.delenv(INSIDE, raising=False)
    command = ["experiment=sync_expert", "trainer=slurm", "submit.nodes=2", "submit.gpus=4"]
    assert main(["train", *command]) == 0
    ((job, arguments),) = sent
    assert (job.nodes, job.gpus) == (2, 4)
    assert arguments == command
    assert "job 17" in capsys.readouterr().out
    monkeypatch.setenv(INSIDE, "1")
    assert submission.inside_job()
