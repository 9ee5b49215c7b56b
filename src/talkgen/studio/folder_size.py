"""Keeps the studio's folder within its size: what is oldest goes first, never what a job will need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from talkgen.studio.jobs import Jobs
from talkgen.studio.settings import StudioSettings
from talkgen.studio.uploads import Uploads


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that go while they are counted do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(place) / name).stat().st_size
    return total


def keep_within(settings: StudioSettings, uploads: Uploads, jobs: Jobs) -> None:
    """Delete cached videos, then ended jobs and unused uploads, oldest first, until the rest fits."""
    left = folder_bytes(settings.folder)
    if left <= settings.folder_bytes:
        return
    for file in sorted(
        (one for one in settings.cache.rglob("*") if one.is_file()), key=lambda one: one.stat().st_mtime
    ):
        left -= file.stat().st_size
        file.unlink()
        if left <= settings.folder_bytes:
            return
    used = jobs.used_uploads()
    old: list[tuple[float, Path, Callable[[], None]]] = [
        (job.created, jobs.folder(job), partial(jobs.forget, job)) for job in jobs.ended_oldest_first()
    ]
    old += [
        (upload.created, settings.uploads / upload.id, partial(uploads.forget, upload.id))
        for upload in uploads.oldest_first()
        if upload.id not in used
    ]
    for _, place, forget in sorted(old, key=lambda one: one[0]):
        if left <= settings.folder_bytes:
            return
        left -= folder_bytes(place)
        forget()
