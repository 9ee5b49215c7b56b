"""What ``talkgen generate`` asks of a method, and the methods that other packages bring.

A package of its own names its method in the entry point group ``talkgen.methods``::

    [project.entry-points."talkgen.methods"]
    mymethod = "mypackage.generation:METHOD"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from talkgen.errors import TalkgenError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from talkgen.inference.changed_video import Written

GROUP = "talkgen.methods"


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
        configs: ``pkg://package.configs`` with the method's groups (``experiment/…``); None: it has none.
    """

    is_trained: Callable[[Path], bool]
    open: Callable[[DictConfig, Path], Generate]
    experiment: str
    configs: str | None = None


def installed_methods() -> dict[str, GenerationMethod]:
    """Methods of other packages, by the names of their entry points.

    Raises:
        TalkgenError: one cannot be imported, or is no ``GenerationMethod``.
    """
    found: dict[str, GenerationMethod] = {}
    for entry in entry_points(group=GROUP):
        try:
            method = entry.load()
        except (ImportError, AttributeError) as error:
            raise TalkgenError(
                f"the method {entry.name!r} ({entry.value}) cannot be imported: {error}; "
                "repair or uninstall the package that brings it"
            ) from error
        if not isinstance(method, GenerationMethod):
            raise TalkgenError(
                f"{entry.value} is no talkgen.generation_method.GenerationMethod; see docs/plugin_methods.md"
            )
        found[entry.name] = method
    return found
