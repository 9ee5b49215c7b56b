"""Files that users give: received in pieces, looked at in another process, kept in the studio's folder."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talkgen.data.files import write_atomically
from talkgen.errors import TalkgenError
from talkgen.studio.inspection import GIVEN, THUMBNAIL
from talkgen.studio.settings import MEGABYTE, StudioSettings

_ID = re.compile(r"[0-9a-f]{32}")
_LOOK_SECONDS = 120.0  # a file that takes longer to be looked at is refused
_AT_ONCE = 2  # files that are looked at


class TooLarge(TalkgenError):
    """An upload that is larger than what is taken."""


@dataclass(frozen=True)
class Upload:
    """A file that was found to be media.

    Attributes:
        id: a random name, which nobody guesses.
        owner: whose it is; None: everybody's, such as an example.
        name: as the user calls it; never part of a path.
        kind, file, preview, seconds, width, height, fps, has_sound: see ``inspection.Inspected``.
        created: seconds since 1970.
    """

    id: str
    owner: str | None
    name: str
    kind: str
    file: str
    preview: str
    seconds: float
    width: int
    height: int
    fps: float
    has_sound: bool
    created: float

    def shown(self) -> dict[str, Any]:
        """What the page is told."""
        facts = asdict(self)
        del facts["owner"], facts["file"], facts["preview"]
        facts["url"] = f"/media/uploads/{self.id}/{self.preview}"
        facts["thumbnail"] = f"/media/uploads/{self.id}/{THUMBNAIL}" if self.kind != "sound" else None
        return facts


class Uploads:
    """All uploads of a studio; they outlive a restart.

    Args:
        settings: limits and folder.
    """

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self._looking: asyncio.Semaphore | None = None
        self._known: dict[str, Upload] = {}
        settings.uploads.mkdir(parents=True, exist_ok=True)
        for folder in settings.uploads.iterdir():
            try:
                upload = Upload(**json.loads((folder / "upload.json").read_text()))
                self._known[upload.id] = upload
            except (OSError, ValueError, TypeError):  # what was being received when the studio ended
                shutil.rmtree(folder, ignore_errors=True)

    def get(self, id_: str, session: str) -> Upload | None:
        """An upload that a user may use."""
        found = self._known.get(id_)
        return found if found is not None and found.owner in (None, session) else None

    def path(self, upload: Upload) -> Path:
        """The file."""
        return self.settings.uploads / upload.id / upload.file

    def media(self, id_: str, name: str, session: str) -> Path | None:
        """A file of an upload that a user may see."""
        upload = self.get(id_, session)
        if upload is None or name not in (upload.preview, THUMBNAIL):
            return None
        file = self.settings.uploads / upload.id / name
        return file if file.is_file() else None

    async def receive(self, pieces: AsyncIterator[bytes], name: str, owner: str | None) -> Upload:
        """Write, look at, and keep a file; nothing is left of one that is refused.

        Args:
            pieces: its content.
            name: as the user calls it.
            owner: whose it shall be.

        Raises:
            TooLarge: it is larger than what is taken.
            TalkgenError: it is no media.
        """
        id_ = secrets.token_hex(16)
        folder = self.settings.uploads / id_
        folder.mkdir(parents=True)
        try:
            size = 0
            with (folder / GIVEN).open("wb") as stream:
                async for piece in pieces:
                    size += len(piece)
                    if size > self.settings.upload_bytes:
                        most = self.settings.upload_bytes / MEGABYTE
                        raise TooLarge(
                            f"the file is larger than {most:.0f} MB; give a shorter or smaller one"
                        )
                    stream.write(piece)
            facts = await self._look(folder)
            upload = Upload(id=id_, owner=owner, name=shown_name(name), created=time.time(), **facts)
            write_atomically(folder / "upload.json", json.dumps(asdict(upload)).encode())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._known[id_] = upload
        return upload

    async def _look(self, folder: Path) -> dict[str, Any]:
        self._looking = self._looking or asyncio.Semaphore(_AT_ONCE)
        limits = [str(self.settings.upload_seconds), str(self.settings.upload_pixels)]
        async with self._looking:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "talkgen.studio.inspection", str(folder.absolute()), *limits,
                stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL,
                env={**os.environ, "TMPDIR": str(self.settings.temporary.absolute())},
            )  # fmt: skip
            try:
                said, _ = await asyncio.wait_for(process.communicate(), _LOOK_SECONDS)
            except TimeoutError as error:
                raise TalkgenError(
                    "the file could not be read within two minutes; give a smaller one"
                ) from error
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        lines = said.decode(errors="replace").strip().splitlines()
        if process.returncode != 0 or not lines:
            raise TalkgenError("the file is damaged: reading it failed")
        facts: dict[str, Any] = json.loads(lines[-1])
        if "reason" in facts:
            raise TalkgenError(str(facts["reason"]))
        return facts

    def forget(self, id_: str) -> None:
        """Delete an upload."""
        if _ID.fullmatch(id_) and self._known.pop(id_, None) is not None:
            shutil.rmtree(self.settings.uploads / id_, ignore_errors=True)

    def oldest_first(self) -> list[Upload]:
        """All of them."""
        return sorted(self._known.values(), key=lambda upload: upload.created)


def shown_name(name: str) -> str:
    """A file's name without folders and what no name should hold; it is shown and never opened."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:80] or "file"
