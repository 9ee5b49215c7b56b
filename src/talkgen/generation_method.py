"""What ``talkgen generate`` asks of a method, and the methods that there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from talkgen.plugins import installed

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from talkgen.inference.changed_video import Written


@dataclass(frozen=True)
class GenerationFiles:
    """The files of one generated video.

    Attributes:
        source: picture of who shall be seen; None: the target's own face.
        target: video that gives pose, expression and background.
        audio: sound or video with the speech; None: the target's own.
        out: where the result goes.
    """

    source: Path | None
    target: Path
    audio: Path | None
    out: Path


Generate = Callable[[GenerationFiles], "Written"]
"""Writes one video; called once for each job, with networks that are loaded already."""


@dataclass(frozen=True)
class GenerationMethod:
    """A way to generate video.

    Attributes:
        is_trained: whether a folder holds runs of this method that can be used.
        open: the composed config of ``talkgen generate`` and that folder → ``Generate``.
        experiment: what trains it, for messages.
    """

    is_trained: Callable[[Path], bool]
    open: Callable[[DictConfig, Path], Generate]
    experiment: str


OWN = {name: f"talkgen.{name}_generation:METHOD" for name in ("swaptalk", "diff2lip", "disenttalk")}
"""The methods of this package, named as other packages name theirs."""


def methods() -> dict[str, GenerationMethod]:
    """Every method that there is, by the name of its entry point; see ``plugins.py``.

    Raises:
        TalkgenError: one cannot be imported, or is no ``GenerationMethod``.
    """
    return installed("talkgen.methods", GenerationMethod, OWN)
