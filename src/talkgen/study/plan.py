"""Who sees what, in which order, on which side.

Every participant gets a *sheet*: trials in random order, each a clip by two methods side by side. Sheets
come in mirrored pairs, so that over all sheets every clip of every pair of methods is shown equally often on
either side; where a sheet holds a part of all trials, the next pair of sheets goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from talkgen.errors import FileError, TalkgenError

SUFFIXES = (".mp4", ".m4v", ".webm")
"""What browsers play."""


@dataclass(frozen=True)
class Trial:
    """One clip by two methods, or an attention check.

    Attributes:
        clip: name of the clip; of a check, ``check``.
        left, right: names of the methods; of a check, the side that must be chosen is called ``chosen``.
        rating: of a check, the number of stars that must be given; 0 otherwise.
    """

    clip: str
    left: str
    right: str
    rating: int = 0

    @property
    def is_check(self) -> bool:
        """Whether the trial asks for attention instead of an opinion."""
        return self.rating > 0

    def mirrored(self) -> Trial:
        """The same with the sides exchanged."""
        return Trial(self.clip, self.right, self.left, self.rating)


def find_results(folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """Clips that every folder has: clip → method → video.

    Args:
        folders: method → folder of videos; the name of a file below it, without suffix, is the clip.

    Raises:
        TalkgenError: there are fewer than two methods, or no clip that all of them have.
    """
    if len(folders) < 2:
        raise TalkgenError("a comparison needs two folders of videos: NAME=FOLDER NAME=FOLDER")
    found: dict[str, dict[str, Path]] = {}
    for method, folder in folders.items():
        if not folder.is_dir():
            raise FileError(folder, "no such folder")
        found[method] = {
            file.relative_to(folder).with_suffix("").as_posix(): file
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        }
        if not found[method]:
            raise FileError(folder, f"holds no video ({', '.join(SUFFIXES)})")
    shared = sorted(set.intersection(*(set(clips) for clips in found.values())))
    if not shared:
        some = "; ".join(f"{method}: {', '.join(list(clips)[:3])}" for method, clips in found.items())
        raise TalkgenError(f"no clip is in every folder; videos of a clip have the same name ({some})")
    return {clip: {method: found[method][clip] for method in folders} for clip in shared}


def plan_sheets(
    clips: Sequence[str],
    methods: Sequence[str],
    participants: int,
    trials: int | None = None,
    checks: int = 2,
    seed: int = 0,
) -> list[list[Trial]]:
    """Sheets for an even number of participants.

    Args:
        clips, methods: all names.
        participants: how many sheets, rounded up to an even number.
        trials: opinions a sheet asks for; None: every pair of methods on every clip.
        checks: attention checks a sheet holds, spread over it.
        seed: of the order.

    Returns:
        Sheets in mirrored pairs: sheet 2k + 1 is sheet 2k with left and right exchanged, in its own order.

    Raises:
        TalkgenError: a number cannot be meant.
    """
    if participants < 1 or checks < 0 or (trials is not None and trials < 1):
        raise TalkgenError("participants and trials must be at least 1, checks at least 0")
    everything = [(clip, a, b) for a, b in combinations(methods, 2) for clip in clips]
    count = min(trials or len(everything), len(everything))
    # Which opinions a pair of sheets asks for: a walk over all of them, so that each is asked equally often.
    walk = np.random.default_rng(seed).permutation(len(everything))
    sheets: list[list[Trial]] = []
    for pair in range(-(-participants // 2)):
        rng = np.random.default_rng((seed, pair))
        asked = [everything[walk[(pair * count + i) % len(everything)]] for i in range(count)]
        # Half of a sheet's trials have the first method on the left, whichever half; the next pair of sheets
        # begins with the other half.
        flips = rng.permutation((np.arange(count) + pair) % 2 == 1)
        shown = [
            Trial(c, *((b, a) if flip else (a, b))) for (c, a, b), flip in zip(asked, flips, strict=True)
        ]
        for mirror in (False, True):
            turned = [trial.mirrored() if mirror else trial for trial in shown]
            sheets.append(_with_checks([turned[i] for i in rng.permutation(count)], checks, rng))
    return sheets


def _with_checks(trials: list[Trial], checks: int, rng: np.random.Generator) -> list[Trial]:
    """Attention checks at about equal distances, never first."""
    shown = list(trials)
    for number in range(checks, 0, -1):
        sides = ("chosen", "other") if rng.integers(2) else ("other", "chosen")
        place = max(1, round(number * len(trials) / (checks + 1)))
        shown.insert(place, Trial("check", *sides, rating=int(rng.integers(1, 6))))
    return shown
