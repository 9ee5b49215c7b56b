"""What a studio may do, and where it keeps what it makes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 2**20


@dataclass(frozen=True)
class StudioSettings:
    """The studio's settings; ``talkgen studio --help`` explains them.

    Attributes:
        folder: uploads, results and everything else that the studio writes lie below it.
        runs: where trained methods are looked for.
        prepared: where prepared corpora are looked for.
        host: address that is listened on.
        port: of the address; 0 takes a free one.
        device: where networks run: ``auto``, ``cpu``, ``cuda``, …
        upload_bytes: no uploaded file is larger.
        upload_seconds: none lasts longer.
        upload_pixels: no side of a picture or video is longer.
        folder_bytes: what is oldest goes when uploads and results grow past this.
        text_letters: no text to be spoken is longer.
        waiting: jobs that may wait, of all users together.
        waiting_each: jobs of one user that may wait or run.
        job_seconds: a job that works longer is ended.
    """

    folder: Path = Path("studio")
    runs: Path = Path("runs")
    prepared: Path = Path("prepared")
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = "auto"
    upload_bytes: int = 200 * MEGABYTE
    upload_seconds: float = 60.0
    upload_pixels: int = 4096
    folder_bytes: int = 5000 * MEGABYTE
    text_letters: int = 600
    waiting: int = 32
    waiting_each: int = 6
    job_seconds: float = 3600.0

    @property
    def uploads(self) -> Path:
        """A folder for every file that was uploaded."""
        return self.folder / "uploads"

    @property
    def jobs(self) -> Path:
        """A folder for every job."""
        return self.folder / "jobs"

    @property
    def cache(self) -> Path:
        """What can be made again: clips of corpora as videos, features of metrics."""
        return self.folder / "cache"

    @property
    def temporary(self) -> Path:
        """For the work of child processes; emptied when the studio starts."""
        return self.folder / "temporary"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
