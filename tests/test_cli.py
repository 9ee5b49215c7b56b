from __future__ import annotations

import importlib
import subprocess
import sys

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


def test_unknown_command_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "no command 'trian'" in capsys.readouterr().err


def test_user_errors_become_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(arguments: list[str]) -> int:
        raise FileError(arguments[0], "holds no video stream")

    assert cli.run_command(broken, ["clip.mp4"]) == 1
    assert capsys.readouterr().err == "error: clip.mp4: holds no video stream\n"
