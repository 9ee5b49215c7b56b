"""``talkgen studio``: the web page, on this machine."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from talkgen.errors import MissingPackage, TalkgenError, from_os_error
from talkgen.studio.settings import MEGABYTE, StudioSettings, is_loopback


def parse(arguments: Sequence[str]) -> StudioSettings:
    """Settings from the arguments of the command."""
    usual = StudioSettings()
    parser = argparse.ArgumentParser(
        prog="talkgen studio",
        description="A web page on this machine: generate, compare, control regions, swap, browse.",
    )
    add = parser.add_argument
    add("--runs", type=Path, default=usual.runs, help="folder of trained runs (default: %(default)s)")
    add(
        "--prepared",
        type=Path,
        default=usual.prepared,
        help="folder of prepared corpora (default: %(default)s)",
    )
    add(
        "--folder",
        type=Path,
        default=usual.folder,
        help="uploads and results lie here (default: %(default)s)",
    )
    add("--host", default=usual.host, help="address to listen on (default: %(default)s: this machine alone)")
    add("--port", type=int, default=usual.port, help="0 takes a free one (default: %(default)s)")
    add("--device", default=usual.device, help="auto, cpu, cuda, … (default: %(default)s)")
    add("--max-megabytes", type=_positive, default=usual.upload_bytes / MEGABYTE, metavar="MB",
        help="of an uploaded file (default: %(default)g)")  # fmt: skip
    add("--max-seconds", type=_positive, default=usual.upload_seconds, metavar="S",
        help="that an uploaded file may last (default: %(default)g)")  # fmt: skip
    add("--keep-megabytes", type=_positive, default=usual.folder_bytes / MEGABYTE, metavar="MB",
        help="of the folder; what is oldest goes (default: %(default)g)")  # fmt: skip
    given = parser.parse_args(list(arguments))
    return StudioSettings(
        folder=given.folder,
        runs=given.runs,
        prepared=given.prepared,
        host=given.host,
        port=given.port,
        device=given.device,
        upload_bytes=round(given.max_megabytes * MEGABYTE),
        upload_seconds=given.max_seconds,
        folder_bytes=round(given.keep_megabytes * MEGABYTE),
    )


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return value


def main(arguments: Sequence[str]) -> int:
    """``talkgen studio``.

    Args:
        arguments: see ``--help``.

    Raises:
        TalkgenError: a package is missing, the address cannot be had, or another studio uses the folder.
    """
    settings = parse(arguments)
    try:
        import uvicorn

        from talkgen.studio.server import Studio, make_app
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise MissingPackage(f'the studio needs {error.name}: pip install "talkgen[studio]"') from error
    if not is_loopback(settings.host):
        print(
            f"warning: --host {settings.host} lets everyone who reaches this machine use the studio, without "
            "a password and without encryption; the default, 127.0.0.1, does not",
            file=sys.stderr,
        )
    lock = _lock(settings.folder)
    with lock, _listen(settings) as listening:
        app = make_app(Studio(settings))
        port = listening.getsockname()[1]
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"the studio is at http://{shown}:{port} (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises anew when it has ended in order
            uvicorn.Server(config).run(sockets=[listening])
    return 0


def _listen(settings: StudioSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(128)  # who comes before the studio is ready waits
    except (OSError, OverflowError) as error:
        listening.close()
        raise TalkgenError(
            f"--host {settings.host} --port {settings.port} cannot be listened on ({error}); "
            "choose another port, or --port 0"
        ) from error
    return listening


def _lock(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("w")
    except OSError as error:
        raise from_os_error(error) or error from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise TalkgenError(f"another studio uses {folder}; give another one with --folder") from error
    return stream
