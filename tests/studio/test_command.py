"""``talkgen studio`` as a command."""

from __future__ import annotations

import builtins
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from talkgen.errors import MissingPackage, TalkgenError
from talkgen.studio.command import main, parse
from talkgen.studio.settings import StudioSettings, is_loopback


def test_what_is_usual() -> None:
    assert parse([]) == StudioSettings()
    assert StudioSettings().host == "127.0.0.1"
    given = parse(["--max-megabytes", "1.5", "--max-seconds", "9", "--port", "0"])
    assert (given.upload_bytes, given.upload_seconds, given.port) == (1572864, 9, 0)
    with pytest.raises(SystemExit):
        parse(["--max-seconds", "-1"])


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("[::1]", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_this_machine_alone(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TalkgenError, match="cannot be listened on"):
            main(["--port", str(port), "--folder", str(tmp_path / "studio")])


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fails(name: str, *given: object, **named: object) -> object:
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", fails)
    with pytest.raises(MissingPackage, match=r'pip install "talkgen\[studio\]"'):
        main([])


def test_from_the_shell(tmp_path: Path) -> None:
    """Warns of an open address, answers, refuses a second studio on its folder, and ends with Ctrl-C."""
    command = [
        sys.executable,
        "-m",
        "talkgen.cli",
        "studio",
        "--port",
        "0",
        "--folder",
        str(tmp_path / "a b"),
    ]
    process = subprocess.Popen(
        [*command, "--host", "0.0.0.0"], cwd=tmp_path, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        port = int(line.split("http://0.0.0.0:")[1].split()[0])
        assert b"talkgen" in urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read()
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert second.returncode == 1 and "another studio uses" in second.stderr
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "lets everyone who reaches this machine" in said and "Traceback" not in said
    assert {file.name for file in tmp_path.iterdir()} == {"a b"}
