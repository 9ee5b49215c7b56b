"""Files of the demo corpus, to begin with: faces that belong to nobody, speaking."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talkgen.errors import TalkgenError
from talkgen.studio.settings import StudioSettings
from talkgen.studio.uploads import Upload, Uploads

TEXT = "Good morning, and welcome. This is a synthetic voice."
_PIECE = 2**20


@dataclass
class Examples:
    """What the example buttons fill in; files are taken into the studio when they are first asked for.

    Attributes:
        settings: where corpora are looked for.
        uploads: which take the files.
    """

    settings: StudioSettings
    uploads: Uploads
    _taken: dict[str, str] = field(default_factory=dict)

    def available(self) -> bool:
        """Whether a demo corpus is there."""
        return self._corpus() is not None

    async def of(self, task: str) -> dict[str, Any]:
        """Role → what the page is told of the file, and ``text``, for a tab.

        Raises:
            TalkgenError: there is no demo corpus.
        """
        corpus = self._corpus()
        if corpus is None:
            raise TalkgenError(
                f"there is no demo corpus in {self.settings.prepared}; make one: talkgen prepare corpus=demo"
            )
        face, speaker, other = _people(corpus)
        roles: dict[str, Upload] = {"target": await self._take(face)}
        if task in ("compare", "swap", "regions"):
            roles["audio"] = await self._take(speaker)
        if task == "swap":
            roles["source"] = await self._picture(other)
        if task == "regions":
            roles["target"] = await self._picture(face)
            roles["eyes"] = await self._take(other)
            roles["pose"] = await self._take(speaker)
        shown: dict[str, Any] = {role: upload.shown() for role, upload in roles.items()}
        return {"files": shown, "text": TEXT if task == "generate" else ""}

    def _corpus(self) -> Path | None:
        places = sorted(self.settings.prepared.glob("*/demo.json"))
        return next((file.parent for file in places if (file.parent / "clips.jsonl").is_file()), None)

    async def _take(self, file: Path) -> Upload:
        return await self._once(str(file), file.name, file.read_bytes())

    async def _picture(self, file: Path) -> Upload:
        """The first frame of a video."""
        return await self._once(f"{file} 0", f"{file.stem}.png", _first_frame(file))

    async def _once(self, key: str, name: str, content: bytes) -> Upload:
        known = self.uploads.get(self._taken.get(key, ""), "")
        if known is None:
            known = await self.uploads.receive(_pieces(content), name, None)
            self._taken[key] = known.id
        return known


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE):
        yield content[start : start + _PIECE]


def _first_frame(file: Path) -> bytes:
    import cv2

    from talkgen.video.reader import read_frames

    frame = next(iter(read_frames(file)))
    return bytes(cv2.imencode(".png", frame[..., ::-1])[1].tobytes())


def _people(corpus: Path) -> tuple[Path, Path, Path]:
    """Clips of three people, test clips first; English ones where there are."""
    lines = [json.loads(line) for line in (corpus / "clips.jsonl").read_text().splitlines()]
    own = [line for line in lines if not line.get("swap_of")]
    own.sort(key=lambda line: (line["split"] != "test", line.get("language") != "en"))
    people: dict[str, Path] = {}
    for line in own:
        people.setdefault(line["identity"], corpus / line["video"])
    clips = list(people.values()) or [corpus / "videos"]
    return clips[0], clips[1 % len(clips)], clips[2 % len(clips)]
