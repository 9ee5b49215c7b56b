from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talkgen import cli
from talkgen.errors import FileError


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from talkgen import cli; cli.main(['--help']);"
        "print([m for m in ('torch', 'numpy', 'hydra', 'lightning', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("[]")
    assert "prepare" in result.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists(name: str) -> None:
    command = cli.COMMANDS[name]
    assert callable(getattr(importlib.import_module(command.module), command.function))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, f"{cli.SPIN_COUNT} None"),
        ({"GOMP_SPINCOUNT": "77"}, "77 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_waiting_threads_are_told_to_sleep_before_torch_is_loaded(
    given: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    """Unless the user says what they do."""
    (tmp_path / "torch.py").write_text(
        "import os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY')); os._exit(7)"
    )
    variables = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    result = subprocess.run(
        [sys.executable, "-m", "talkgen.cli", "train", "experiment=sync_expert", "size=tiny", "data.root=s3://x"],
        env={**variables, "PYTHONPATH": str(tmp_path), **given}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 7, result.stderr
    assert result.stdout.strip() == wanted


def test_unknown_command_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err


def test_user_errors_become_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(arguments: list[str]) -> int:
        raise FileError(arguments[0], "holds no video stream")

    assert cli.run_command(broken, ["clip.mp4"]) == 1
    assert capsys.readouterr().err == "error: clip.mp4: holds no video stream\n"


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "make room"), (errno.EACCES, "permissions")])
def test_what_the_operating_system_refuses_is_one_sentence(
    number: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(arguments: list[str]) -> int:
        raise OSError(number, os.strerror(number), "out/x")

    assert cli.run_command(refused, []) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: out/x: ") and said in error and error.count("\n") == 1


def test_other_errors_of_the_operating_system_keep_their_traceback() -> None:
    def broken(arguments: list[str]) -> int:
        raise OSError(errno.EBADF, "bad file descriptor")

    with pytest.raises(OSError, match="bad file"):
        cli.run_command(broken, [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_a_sentence_that_says_how_to_go_on(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    held = signal.getsignal(signal.SIGTERM)

    def stopped(arguments: list[str]) -> int:
        os.kill(os.getpid(), number)
        time.sleep(5)
        return 0

    assert cli.run_command(stopped, []) == 128 + number
    said = capsys.readouterr().err
    assert (
        said
        == f"stopped by {number.name}; what is finished is kept, and the same command goes on from there\n"
    )
    assert signal.getsignal(signal.SIGTERM) == held


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sourc=x"], "nothing reads the key 'sourc' of the config (did you mean 'source'?)"),
        (["corpus=folder", "settings.siz=3"], "did you mean 'settings.size'?"),
        (["corpus=nosuch"], "there is no corpus=nosuch; there are corpus=chdtf|demo|demo_city|demo_crowd"),
        (["corpus=folder", "source=.", "out=${nope}/x"], "Interpolation key 'nope' not found"),
        (["corpus=folder", "source=raw", "out=file"], "file: File exists; choose another name"),
        (["corpus=folder", "source=raw", "corpus.find_clips.val=2"], "leave something to train"),
        (["corpus=folder", "source=raw", "workers=-1"], "workers=-1: give a number of processes"),
        (["corpus=folder", "source=raw", "shard_megabytes=abc"], "shard_megabytes=abc"),
        (["corpus=folder", "source=raw", "settings.size=0"], "size is at least 16"),
        (["corpus=folder", "source=nowhere (ünï)", "out=o"], "nowhere (ünï): no such folder"),
        (["--check", "nowhere (ünï)/a=b"], "no such folder"),
    ],
)
def test_mistakes_in_a_prepare_command(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.mp4").write_text("no video")
    (tmp_path / "file").touch()
    assert cli.main(["prepare", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and "Traceback" not in error
    assert error.count("\n") <= 2
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_pipe_may_be_closed_early() -> None:
    command = f"{sys.executable} -m talkgen.cli prepare --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("talkgen prepare") and done.stderr == ""
