"""``talkgen provenance check FILE``: does a video say, openly or hidden, that it was generated?

Every video that talkgen generates carries a comment in its metadata and an invisible watermark, and Content
Credentials where the machine has a certificate. Metadata are lost when a video is uploaded; the watermark is
made to stay.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from talkgen.errors import FileError, MissingPackage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from talkgen.video.content_credentials import Credentials
    from talkgen.video.watermark import Detection

FRAMES = 32
"""Frames, spread over the video, in which the watermark is looked for."""

NOT_FOUND = 3
"""Exit code where a video bears no sign."""


@dataclass(frozen=True)
class Provenance:
    """The signs in a video.

    Attributes:
        comment: talkgen's note in the metadata.
        watermark: what was found in the pictures.
        credentials: the C2PA manifest; None: there is none, or c2pa-python is not installed.
        credentials_readable: whether c2pa-python is installed.
    """

    comment: bool
    watermark: Detection
    credentials: Credentials | None
    credentials_readable: bool

    @property
    def synthetic(self) -> bool:
        """Whether any of them says that the video was generated."""
        said = self.credentials is not None and self.credentials.synthetic
        return self.comment or self.watermark.found or said


def examine(file: str | Path) -> Provenance:
    """Look for every sign in a video.

    Raises:
        FileError: it is missing, or no video.
    """
    from talkgen.video.container import open_container
    from talkgen.video.content_credentials import read_credentials
    from talkgen.video.watermark import detect
    from talkgen.video.writer import SYNTHETIC_COMMENT

    if not Path(file).is_file():
        raise FileError(file, "no such file; check the path")
    watermark = detect(spread_frames(file, FRAMES))
    with open_container(file) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    try:
        credentials, readable = read_credentials(file), True
    except MissingPackage:
        credentials, readable = None, False
    return Provenance(SYNTHETIC_COMMENT in tags.get("comment", ""), watermark, credentials, readable)


def spread_frames(file: str | Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """Up to ``count`` frames at equal distances over a video."""
    from talkgen.video.reader import probe, read_frames

    info = probe(file)
    return read_frames(file, fps=min(info.fps, count / max(info.seconds, 1e-3)), on_error="stop")


def report(file: str | Path, found: Provenance) -> str:
    """A line for each sign, and a verdict."""
    mark = found.watermark
    lines = [
        f"metadata:    {'say that it was generated with talkgen' if found.comment else 'say nothing'}",
        f"watermark:   {'found' if mark.found else 'not found'} "
        f"(score {mark.score:.1f}, {mark.frames} frames; 5 and more is no chance)",
    ]
    if found.credentials is not None:
        said = found.credentials
        kind = "made or changed by a trained model" if said.synthetic else "of another kind"
        lines.append(f"credentials: {kind}, by {said.generator}, signed by {said.signer} ({said.state})")
    else:
        cure = "" if found.credentials_readable else ' (not looked for: pip install "talkgen[provenance]")'
        lines.append(f"credentials: none{cure}")
    verdict = "generated" if found.synthetic else "bears no sign of having been generated with talkgen"
    return "\n".join([*lines, f"{file}: {verdict}"])


def main(arguments: Sequence[str]) -> int:
    """``talkgen provenance``.

    Args:
        arguments: ``check`` and files.

    Returns:
        0 where every file bears a sign, ``NOT_FOUND`` where one does not.
    """
    parser = argparse.ArgumentParser(
        prog="talkgen provenance",
        description="Say whether videos were generated with talkgen. "
        f"Exit code {NOT_FOUND}: one bears no sign.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="look for metadata, watermark and Content Credentials")
    check.add_argument("files", nargs="+", metavar="FILE", type=Path)
    given = parser.parse_args(list(arguments))
    signs = []
    for file in given.files:
        found = examine(file)
        signs.append(found.synthetic)
        print(report(file, found))
    return 0 if all(signs) else NOT_FOUND
