"""The methods that a table can compare, and one table of any number of them.

A method registers here with the names of its stages and the module that makes its rows. Importing this costs
nothing; the module is imported when the method is scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from talkgen.comparison import (
    OpenMethod,
    Scored,
    compare,
    listens,
    open_clips,
    open_device,
    resized_scored,
)
from talkgen.configuration import RunFolder, find_runs
from talkgen.errors import TalkgenError
from talkgen.plugins import installed

if TYPE_CHECKING:
    from talkgen.inference.contenders import Casting
    from talkgen.metrics.contenders import Contender
    from talkgen.metrics.held_out import HeldOutClips
    from talkgen.metrics.stopwatch import GenerationCost
    from talkgen.metrics.table import Table


@dataclass(frozen=True)
class ComparedMethod:
    """How a method comes into a table.

    Attributes:
        title: as people write it.
        stages: names of stages; a folder in which one of them is trained can be scored.
        module: offers ``open_method(cfg, folder, device) -> talkgen.comparison.OpenMethod``.
        metrics: preset of its columns where it stands alone.
        published: names of tables in ``configs/published`` that stand below its own.
    """

    title: str
    stages: tuple[str, ...]
    module: str
    metrics: str = "methods"
    published: tuple[str, ...] = ()

    def is_trained(self, folder: Path) -> bool:
        """Whether the folder has a trained stage that makes pictures."""
        return any(RunFolder(folder / stage).last.is_file() for stage in self.stages)

    def open(self, cfg: DictConfig, folder: Path, device: str) -> OpenMethod:
        """The method's networks, ready to make rows."""
        opened: OpenMethod = import_module(self.module).open_method(cfg, folder, device)
        return opened


METHODS: dict[str, ComparedMethod] = {
    "swaptalk": ComparedMethod(
        "SwapTalk",
        ("swaptalk_face_swap", "swaptalk_lip_sync"),
        "talkgen.swaptalk_evaluation",
        metrics="swaptalk",
        published=("swaptalk",),
    ),
    "diff2lip": ComparedMethod(
        "Diff2Lip", ("diff2lip_diffusion",), "talkgen.diff2lip_evaluation", metrics="diff2lip"
    ),
    "disenttalk": ComparedMethod("DisentTalk", ("disenttalk_renderer",), "talkgen.disenttalk_evaluation"),
}
"""Name → method. A method adds itself by one entry; everything else of it lies in its module."""

METHODS |= installed("talkgen.compared_methods", ComparedMethod)  # of other packages

WINDOWS_AT_ONCE = 8
"""Windows of frames that a row makes before the next row's turn."""

TIMED_CLIPS = 2
"""Clips on which columns of speed are measured."""

COMMON_ROWS = ("wrong_sound", "copied", "exact_swap")
"""Keys of ``rows`` that stand in every table of methods, beside those of the methods themselves."""


def method_of(folder: str | Path) -> str | None:
    """Name of the method whose trained stages lie in a folder, None if it is no method's."""
    return next((name for name, method in METHODS.items() if method.is_trained(Path(folder))), None)


def newest_methods(runs: str | Path) -> list[Path]:
    """The newest trained folder of each method below ``runs``, in the order of the registry."""
    newest: dict[str, Path] = {}
    for folder in dict.fromkeys(run.path.parent for run in find_runs(runs)):
        if name := method_of(folder):
            newest.setdefault(name, folder)
    return [newest[name] for name in METHODS if name in newest]


def score_methods(cfg: DictConfig, folders: Mapping[str, Path], out: Path) -> Table:
    """One table of methods, each the folder of its stages.

    Methods that work at different frame sizes are shown the same clips, each at its own size; the table is at
    the largest, and what is smaller is enlarged, as a viewer would.

    Raises:
        TalkgenError: a row is misspelt, or there is nothing to score.
    """
    from talkgen.inference.contenders import Casting, CopiedMouth, ExactSwap
    from talkgen.metrics.contenders import AtSize, GroundTruth, OtherSound, Reencoded

    kinds = {name: METHODS[str(method_of(folder))] for name, folder in folders.items()}
    device = open_device(cfg.device)
    methods = {name: kinds[name].open(cfg, folder, device) for name, folder in folders.items()}
    keys = list(dict.fromkeys([*COMMON_ROWS, *(row for method in methods.values() for row in method.rows)]))
    rows = list(cfg.rows) or keys
    if unknown := [row for row in rows if row not in keys]:
        raise TalkgenError(f"rows={unknown[0]}: there are {', '.join(keys)}")
    # Many windows at a time, each whole, so that a clip falls into the same ones as in use.
    piece = WINDOWS_AT_ONCE * math.lcm(*(method.window for method in methods.values()))
    size = max(method.size for method in methods.values())
    scored = open_clips(cfg, next(iter(methods.values())).run, size, unswapped=True, piece=piece)
    casting = Casting(scored.clips, _people(cfg, scored))
    contenders: list[Contender] = [GroundTruth(), Reencoded(cfg.crf)]
    if "wrong_sound" in rows and len(scored.clips) > 1 and listens(cfg):
        contenders.append(OtherSound(casting.sound))
    if "copied" in rows:
        contenders.append(CopiedMouth(casting))
    swaps = any("swap" in method.rows for method in methods.values())
    if swaps and "exact_swap" in rows and any(casting.twin(n) for n in range(len(scored.clips))):
        contenders.append(ExactSwap("swap, exact result", casting))
    tasks: dict[str, str] = {}
    fresh: dict[str, Callable[[], list[GenerationCost]]] = {}
    for name, method in methods.items():
        own = resized_scored(scored, method.size)
        own_casting = casting if own is scored else Casting(own.clips, casting.people)
        prefix = f"{name}: " if len(methods) > 1 else ""
        made = method.contenders(rows, own, own_casting, prefix)
        for row in rows:  # rows of one key do the same, whatever a method calls them
            alone = method.contenders([row], own, own_casting, prefix)
            tasks |= {one.name: row for one in alone}
            fresh |= {one.name: partial(_costs, one, own.clips, method.window, device) for one in alone}
        contenders += made if own is scored else [AtSize(one, own.clips) for one in made]
    titles = " and ".join(dict.fromkeys(kinds[name].title for name in methods))
    title = f"{titles} on {len(scored.clips)} held-out clips"
    notes = _notes(cfg, scored, casting)
    if small := [f"{name} {method.size}" for name, method in methods.items() if method.size < size]:
        notes.append(f"Made at a smaller size and enlarged to {size} px: {', '.join(small)} px.")
    if cfg.published is None:
        with open_dict(cfg):
            cfg.published = sorted({name for kind in kinds.values() for name in kind.published})
    return compare(
        cfg,
        title,
        contenders,
        scored,
        out,
        notes,
        _pictures(casting),
        tasks,
        lambda name: fresh[name]() if name in fresh else [],
    )


def _costs(contender: Contender, clips: HeldOutClips, window: int, device: str) -> list[GenerationCost]:
    """What a row costs on the first clips; nothing of it is shared with another row."""
    from talkgen.metrics.held_out import HeldOutClips
    from talkgen.metrics.stopwatch import measure_generation

    short = HeldOutClips(clips.store, clips.clips, clips.size, clips.limit, window)
    evaluations = getattr(contender, "evaluations", None)
    kind = "cuda" if device.startswith("cuda") else device
    next(iter(contender.generate(short, 0)))  # opens and compiles what is opened and compiled late
    return [
        measure_generation(
            partial(contender.generate, clips, number),
            partial(contender.generate, short, number),
            number,
            clips.clips[number].fps,
            kind,
            evaluations,
        )
        for number in range(min(len(clips), TIMED_CLIPS))
    ]


def _people(cfg: DictConfig, scored: Scored) -> list[str]:
    """Identities of the gallery: those of the scored split, or of the whole corpus."""
    if cfg.gallery not in ("held_out", "all"):
        raise TalkgenError(f"gallery={cfg.gallery}: give held_out or all")
    splits = {clip.split for clip in scored.clips.clips}
    clips = [one for one in scored.data.store.clips if cfg.gallery == "all" or one.split in splits]
    return sorted({clip.identity for clip in clips})


def _pictures(casting: Casting) -> dict[str, Any]:
    """A picture of everyone in the gallery."""
    return {person: casting.aligned_picture(person) for person in casting.people}


def _notes(cfg: DictConfig, scored: Scored, casting: Casting) -> list[str]:
    """What the numbers of the rows with a face swap mean."""
    people, clips = len(casting.people), len(scored.clips)
    exact = sum(casting.twin(number) is not None for number in range(clips))
    who = "the identities of the split" if cfg.gallery == "held_out" else "all identities of the corpus"
    return [
        f"Identity: gallery of {people} people ({who}), one picture each; chance {100 / people:.1f} %. "
        f"One frame in {cfg.recognise_every} was looked at. Rows with a face swap should show the source, "
        "others the clip's own person.",
        f"PSNR, SSIM and LMD of rows with a face swap: against the exact swap, known for {exact} of {clips} "
        "clips. Mouth opening: against the target's own mouth, also where the sound is of another clip, "
        "which is then heard from its middle on: clips may begin alike.",
    ]
