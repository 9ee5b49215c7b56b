"""``talkgen COMMAND …``: every command of the project under one name.

Only the standard library is imported here; a command's own module is imported when it is called, so that
``talkgen --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from talkgen import __version__
from talkgen.errors import TalkgenError, from_os_error

# How often a thread of GNU OpenMP looks whether the others are done before it sleeps. Its own default is some
# 10 ms: beside other programs a training step then takes ten times as long, since what spins keeps the core
# from those it waits for. 3000 is some 0.1 ms, which keeps what two threads gain on a quiet machine
# (docs/performance/threads.md).
SPIN_COUNT = "3000"


GO_ON = "what is finished is kept, and the same command goes on from there"


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@dataclass(frozen=True)
class Command:
    """A command: where it lives, and one line of help."""

    module: str
    function: str
    help: str


COMMANDS: dict[str, Command] = {
    "prepare": Command("talkgen.preparation", "main", "turn a corpus into a store: corpus=demo|folder|…"),
    "disentangle": Command(
        "talkgen.disentangling", "main", "fit coefficients of a store, and part lips, lids and the rest"
    ),
    "train": Command(
        "talkgen.training", "main", "train a method or one of its stages: experiment=swaptalk|…"
    ),
    "evaluate": Command("talkgen.evaluation", "main", "score runs on held-out clips and write tables"),
    "generate": Command("talkgen.generation", "main", "source picture + target video + sound → video"),
    "studio": Command(
        "talkgen.studio.command", "main", "a web page on this machine: generate, compare, browse"
    ),
    "runs": Command("talkgen.run_report", "main", "list runs and how to go on; --report: a page about each"),
    "provenance": Command("talkgen.provenance", "main", "say whether a video was generated: check FILE"),
    "study": Command("talkgen.study.command", "main", "ask people which results they prefer: build | report"),
    "weights": Command("talkgen.weights", "main", "list, get, import and verify pretrained files"),
    "doctor": Command("talkgen.doctor", "main", "say what is installed, what is missing, and how to cure it"),
}


def usage() -> str:
    """The text of ``talkgen --help``."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"talkgen {__version__}: train, compare and use talking-face models",
            "",
            "usage: talkgen COMMAND [arguments]",
            "",
            *lines,
            "",
            "talkgen COMMAND --help says more. The first five take Hydra overrides (key=value).",
        ]
    )


def run_command(function: Callable[[list[str]], int | None], arguments: Sequence[str]) -> int:
    """Call a command; what the user can cure becomes one sentence on standard error.

    Returns:
        Exit code: what the command gave; 1 after a :class:`TalkgenError`, and where the operating system
        refused a file; 130 after Ctrl-C, 143 after SIGTERM; 141 where the reader of a pipe went away.
    """
    try:
        with _stoppable():
            return function(list(arguments)) or 0
    except TalkgenError as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:  # of `talkgen … | head`; nobody reads what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        known = from_os_error(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        print(f"stopped by {signal.Signals(number).name}; {GO_ON}", file=sys.stderr)
        return 128 + number
    return 1


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM, by which schedulers and containers end a process, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only there signals can be taken
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    held = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, held)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the ``talkgen`` script.

    Args:
        arguments: command and its arguments; ``sys.argv[1:]`` by default.

    Returns:
        Exit code: 0 done, 1 the user can cure it, 2 wrong usage, 130 or 143 stopped by a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"talkgen: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT  # read when PyTorch is loaded, which a command does
    return run_command(getattr(importlib.import_module(command.module), command.function), rest)


if __name__ == "__main__":
    sys.exit(main())
