"""The text that a user agrees to before anything is generated, and who has agreed."""

from __future__ import annotations

import json
import threading
import time

from talkgen.data.files import write_atomically
from talkgen.studio.settings import StudioSettings

VERSION = 1
TEXT = (
    "Everyone whose face or voice I use here has agreed to it, or is not a real person.",
    "I will not use what I make to deceive anybody, to harass, or to put words into the mouth of someone who "
    "did not say them, and I will say that it is generated wherever I show it.",
    "I know that every video made here says in its metadata that it is synthetic and bears an invisible "
    "watermark, and that trained models inherit the licences of the data and weights that they learned from.",
)
_MOST = 10_000  # sessions that are remembered


class Consents:
    """Which sessions have agreed; kept in the studio's folder, so that each is asked once.

    Args:
        settings: for the folder.
    """

    def __init__(self, settings: StudioSettings) -> None:
        self._file = settings.folder / "consents.json"
        self._lock = threading.Lock()
        self._given: dict[str, float] = {}
        try:
            content = json.loads(self._file.read_text())
            if content["version"] == VERSION:
                self._given = dict(content["given"])
        except (OSError, ValueError, KeyError, TypeError):
            self._given = {}  # a text that changed, or a damaged file: everyone is asked again

    def has(self, session: str) -> bool:
        """Whether a session has agreed."""
        return session in self._given

    def give(self, session: str) -> None:
        """A session agrees."""
        with self._lock:
            self._given[session] = time.time()
            newest = sorted(self._given.items(), key=lambda item: item[1])[-_MOST:]
            self._given = dict(newest)
            content = {"version": VERSION, "text": TEXT, "given": self._given}
            write_atomically(self._file, json.dumps(content, indent=1).encode())
