"""Which trained methods there are, and what a user may set of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from talkgen.configuration import RunFolder, find_runs
from talkgen.errors import TalkgenError
from talkgen.generation import methods
from talkgen.inference.stages import RENDERER_STAGE, SWAP_STAGE, SYNC_STAGE


@dataclass(frozen=True)
class Option:
    """A setting that the page offers.

    Attributes:
        key: of ``configs/generate.yaml``.
        label: what the page calls it.
        default: value; None is "as trained".
        choices: value → words, where it is one of several.
        least, most: where it is a whole number.
        hint: one sentence more.
    """

    key: str
    label: str
    default: str | int | bool | None
    choices: Mapping[str, str] | None = None
    least: int = 0
    most: int = 0
    hint: str = ""

    def check(self, value: Any) -> str | int | bool | None:
        """The value, as the config takes it.

        Raises:
            TalkgenError: it cannot be meant.
        """
        if value is None or value == "":
            return self.default
        if self.choices is not None:
            if not isinstance(value, str) or value not in self.choices:
                raise TalkgenError(f"{self.label}: give {' or '.join(self.choices)}")
            return value
        if isinstance(self.default, bool):
            if not isinstance(value, bool):
                raise TalkgenError(f"{self.label}: give yes or no")
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise TalkgenError(f"{self.label}: give a whole number from {self.least} to {self.most}")
        return value


_FACE = Option(
    "choose", "Face", "size", {"size": "the largest", "longest": "seen longest", "index:0": "the leftmost"},
    hint="Which face is changed where the target shows several.",
)  # fmt: skip
OPTIONS: dict[str, tuple[Option, ...]] = {
    "swaptalk": (
        Option("order", "Order", "swap_sync",
               {"swap_sync": "swap, then lips", "sync_swap": "lips, then swap"},
               hint="As published the face is swapped first. Counts only with a source."),
        Option("space", "Between them", "latent", {"latent": "latents", "rgb": "pictures"},
               hint="What the first module hands to the second."),
        Option("paste", "Put back", "face", {"face": "the face (an ellipse)", "crop": "the whole crop"}),
        Option("snap", "Snap to the nearest codes", False),
        _FACE,
    ),
    "diff2lip": (
        Option("diff2lip.sampler", "Sampler", None,
               {"ddim": "DDIM", "dpm_solver": "DPM-Solver++", "unipc": "UniPC"}),
        Option("diff2lip.steps", "Steps", 8, least=1, most=100, hint="Counts where a sampler is chosen."),
        Option("diff2lip.close_in_silence", "Close the lips in silence", True),
        _FACE,
    ),
    "disenttalk": (
        Option("disenttalk.renderer", "Renderer", "auto",
               {"auto": "trained, else the mesh", "trained": "trained", "mesh": "the bare mesh"}),
        Option("disenttalk.into", "Show", "crop", {"crop": "the face", "picture": "the whole picture"}),
        Option("disenttalk.seed", "Seed", 0, least=0, most=10**6,
               hint="Another number draws other movements for the same sound."),
    ),
}  # fmt: skip
TITLES = {"swaptalk": "SwapTalk", "diff2lip": "Diff2Lip", "disenttalk": "DisentTalk"}


@dataclass(frozen=True)
class TrainedMethod:
    """A trained method that can be used.

    Attributes:
        name: its folder, relative to the folder of runs.
        method: key of ``generation.methods()``.
        title: for people.
        folder: of its stages.
        swaps: whether it can put another face into a video.
        moves_lips: whether it makes lips follow a sound.
        parts: what of it is trained, for people.
        complete: whether everything that makes its pictures is trained.
        changed: when its newest checkpoint was written, seconds since 1970.
    """

    name: str
    method: str
    title: str
    folder: Path
    swaps: bool
    moves_lips: bool
    parts: str
    complete: bool
    changed: float

    @property
    def options(self) -> tuple[Option, ...]:
        """What may be set."""
        return OPTIONS.get(self.method, ())

    def shown(self) -> dict[str, Any]:
        """What the page is told."""
        facts = asdict(self)
        del facts["folder"]
        facts["options"] = [asdict(option) for option in self.options]
        return facts


def find_methods(runs: Path) -> list[TrainedMethod]:
    """Every trained method below a folder, newest first and incomplete ones last.

    Stages of a method are not listed apart.

    Args:
        runs: folder of runs; one that is not there holds none.
    """
    known = methods()
    newest: dict[Path, float] = {}
    for run in find_runs(runs):
        for place in (run.path.parent, run.path):
            newest.setdefault(place, run.last.stat().st_mtime)
    found: list[TrainedMethod] = []
    taken: set[tuple[Path, str]] = set()
    for place, changed in newest.items():
        for key, method in known.items():
            if (place.parent, key) not in taken and method.is_trained(place):
                taken.add((place, key))
                found.append(_described(place, runs, key, changed))
    return sorted(found, key=lambda one: not one.complete)


def _described(folder: Path, runs: Path, method: str, changed: float) -> TrainedMethod:
    name = folder.relative_to(runs).as_posix()
    swaps, lips, complete, parts = False, True, True, ""
    if method == "swaptalk":
        swaps, lips = (RunFolder(folder / stage).last.is_file() for stage in (SWAP_STAGE, SYNC_STAGE))
        complete = swaps and lips
        parts = " and ".join(word for word, there in (("face swap", swaps), ("lip-sync", lips)) if there)
    elif method == "diff2lip":
        parts = "lip-sync"
    elif method == "disenttalk":
        trained = RunFolder(folder / RENDERER_STAGE).last.is_file()
        parts = "motion and renderer" if trained else "motion, shown by the bare mesh"
        complete = trained
    title = TITLES.get(method, method)
    return TrainedMethod(name, method, title, folder, swaps, lips, parts, complete, changed)


def checked_values(method: TrainedMethod, given: Mapping[str, Any]) -> dict[str, str | int | bool | None]:
    """Every option of a method with its value.

    Raises:
        TalkgenError: a key is unknown, or a value cannot be meant.
    """
    options = {option.key: option for option in method.options}
    for key in given:
        if key not in options:
            raise TalkgenError(f"{method.title} has no option {re.sub(r'[^a-z0-9_.]', '', str(key))[:40]!r}")
    return {key: option.check(given.get(key)) for key, option in options.items()}


def changed_words(method: TrainedMethod, values: Mapping[str, Any]) -> str:
    """The options that are not as they are by themselves, in words; empty for none."""
    words = []
    for option in method.options:
        value = values.get(option.key, option.default)
        if value != option.default:
            said = (
                option.choices[str(value)] if option.choices else {True: "yes", False: "no"}.get(value, value)
            )
            words.append(f"{option.label.lower()}: {said}")
    return ", ".join(words)
