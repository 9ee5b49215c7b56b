"""Processes that begin at once, to be killed: children of one that has everything imported already.

Starting Python, PyTorch and Lightning takes longer than what is to be disturbed. So a process imports them
once, with one thread, and forks a child for every task. To a signal a child is a process like any other.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Modules of tests that are used here; the same as pytest's `pythonpath`.
FOLDERS = (HERE, HERE.parent / "data", HERE.parent / "video", HERE.parent / "reference")
sys.path += [str(folder) for folder in FOLDERS if str(folder) not in sys.path]
WARM = (
    "commands:warm_up",
    "hydra",
    "lightning",
    "scipy.signal",
    "soxr",
    "talkgen.data.corpora.demo",
    "talkgen.data.prepare",
    "talkgen.data.store_report",
    "talkgen.evaluation",
    "talkgen.generation",
    "talkgen.inference.contenders",
    "talkgen.inference.swaptalk",
    "talkgen.metrics.scoring",
    "talkgen.preparation",
    "talkgen.systems.callbacks.checkpoints",
    "talkgen.systems.stream",
    "talkgen.training",
    "torchvision",
)


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: its exit code; minus the number of the signal that ended it.
        seconds: how long it lived.
        said: all that it printed.
    """

    code: int
    seconds: float
    said: str


class Child:
    """A task under way in a process of its own."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self.pid = pid
        self._nursery, self._log, self._begun = nursery, log, time.monotonic()
        self._ended: Ended | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, unless the child has gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def poll(self) -> Ended | None:
        """How it ended; None while it is alive."""
        return self.wait(0.0)

    def wait(self, seconds: float | None = None) -> Ended | None:
        """Wait for its end, at most so long; None where it is alive then."""
        if self._ended is None:
            code = self._nursery._wait(self.pid, seconds)
            if code is not None:
                self._ended = Ended(code, time.monotonic() - self._begun, self.said())
        return self._ended

    def end(self, seconds: float) -> Ended:
        """Wait for its end; after so long it is killed."""
        ended = self.wait(seconds)
        if ended is None:
            self.kill()
            ended = self.wait()
        assert ended is not None
        return ended


class Nursery:
    """A process with everything imported, which forks a child for every task.

    Usage::

        with Nursery() as nursery:
            child = nursery.start("commands:talkgen", ["prepare", "corpus=demo"], folder)
            child.kill()
            print(child.wait().said)

    Args:
        warm: modules that are imported before the first child, or ``module:function`` that is called.
        environment: variables besides those of this process.
    """

    def __init__(self, warm: tuple[str, ...] = WARM, environment: dict[str, str] | None = None) -> None:
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        variables = {**os.environ, **dict.fromkeys(threads, "1"), **(environment or {})}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py"), *warm],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables,
        )  # fmt: skip

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; its children have ended, or end with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def start(self, function: str, arguments: list[Any], folder: Path, log: Path | None = None) -> Child:
        """Begin a task in a child.

        Args:
            function: ``module:name``.
            arguments: of the function, as JSON can say them.
            folder: the child's working folder.
            log: what the child prints; None: ``log.txt`` beside the folder.
        """
        log = folder.with_name(f"{folder.name}.log") if log is None else log
        log.write_bytes(b"")
        pid = self._ask(
            {"function": function, "arguments": arguments, "folder": str(folder), "log": str(log)}
        )
        return Child(self, pid, log)

    def _wait(self, pid: int, seconds: float | None) -> int | None:
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            code = self._ask({"wait": pid})
            if code is not None or (until is not None and time.monotonic() >= until):
                return code
            time.sleep(0.01)

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process that forks children has gone")
        return json.loads(answer)


def _child(task: dict[str, Any]) -> None:
    """Never returns."""
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what shells run in the background
    try:
        log = os.open(task["log"], os.O_WRONLY | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for place, stream in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(place, stream)
        os.chdir(task["folder"])
        os.environ["PWD"] = task["folder"]
        module, _, name = task["function"].partition(":")
        code = getattr(importlib.import_module(module), name)(*task["arguments"]) or 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    """Answer questions on standard input until it closes."""
    answers = os.fdopen(os.dup(1), "w")
    questions = os.fdopen(os.dup(0), "r")
    os.dup2(2, 1)  # what a module prints when it is imported is no answer
    for name in sys.argv[1:]:
        module, _, function = name.partition(":")
        imported = importlib.import_module(module)
        if function:
            getattr(imported, function)()
    ended: dict[int, int] = {}
    alive: set[int] = set()
    while line := questions.readline():
        question = json.loads(line)
        answer: int | None
        if "wait" in question:
            pid = question["wait"]
            if pid in alive:
                gone, status = os.waitpid(pid, os.WNOHANG)
                if gone:
                    alive.discard(pid)
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = ended.get(pid)
        else:
            answer = os.fork()
            if answer == 0:
                questions.close()
                answers.close()
                _child(question)
            alive.add(answer)
            ended.pop(answer, None)  # of an earlier process that had the same number
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _serve()
