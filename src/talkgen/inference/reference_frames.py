"""Which frame of a target shows a lip-sync network what its person looks like, without telling the lips."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from talkgen.inference.target_video import TargetVideo

APART_SECONDS = 0.4
"""How far a frame and its reference should be apart."""


@dataclass(frozen=True)
class ReferenceFrames:
    """A reference for every frame of a target.

    One frame stands for a whole shot: what changes from frame to frame can then not come from it. Near that
    frame, where it would show the very lips that are to be replaced, another one of the shot stands in.

    Attributes:
        numbers: of the frames that are references, sorted.
        of_frame: int64 (frames,), place in ``numbers`` of each frame's reference; −1 where no face is.
    """

    numbers: tuple[int, ...]
    of_frame: NDArray[np.int64]


def two_references(seen: NDArray[np.int64], near: float) -> tuple[tuple[int, int], NDArray[np.int64]]:
    """Two frames of a shot, and which of them (0 or 1) each frame of it takes.

    They lie at one and two thirds of the frames with a face. The first serves all but its neighbours; where
    both are near, the farther one is taken. A single frame is its own reference.

    Args:
        seen: numbers of the frames with a face, at least one.
        near: frames that a frame and its reference should be apart.
    """
    first, second = (int(seen[round(share * (len(seen) - 1))]) for share in (1 / 3, 2 / 3))
    if first == second and len(seen) > 1:
        second = int(seen[-1]) if first != seen[-1] else int(seen[0])
    to_first, to_second = abs(seen - first), abs(seen - second)
    return (first, second), np.where((to_first >= near) | (to_first >= to_second), 0, 1)


def choose_references(video: TargetVideo, apart_seconds: float = APART_SECONDS) -> ReferenceFrames:
    """``two_references`` of every shot.

    Args:
        video: with the face followed through it.
        apart_seconds: how far a frame and its reference should be apart.
    """
    of_frame = np.full(len(video), -1, np.int64)
    chosen: list[int] = []
    for start, stop in pairwise([0, *video.cuts, len(video)]):
        seen = start + np.flatnonzero(video.has_face[start:stop])
        if len(seen):
            pair, which = two_references(seen, apart_seconds * video.fps)
            of_frame[seen] = len(chosen) + which
            chosen += pair
    numbers, back = np.unique(chosen, return_inverse=True)
    known = of_frame >= 0
    of_frame[known] = back[of_frame[known]]
    return ReferenceFrames(tuple(int(number) for number in numbers), of_frame)
