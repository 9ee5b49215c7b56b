"""How often a sync expert prefers the right moment of the sound to a wrong one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMean


class SyncAccuracy(ClipMean):
    """Two-alternative forced choice: is the window's own sound nearer than that of ``shift`` frames away?

    For every window t of a clip and both signs of each shift s: right when
    cos(face_t, audio_t) > cos(face_t, audio_{t+s}), half right when equal. Chance is 50 %.

    Args:
        shifts: distances in frames, each positive.
    """

    higher_is_better = True
    digits = 1

    def __init__(self, shifts: Sequence[int]) -> None:
        super().__init__()
        if not shifts or min(shifts) < 1:
            raise ValueError(f"shifts are distances of at least one frame, not {list(shifts)}")
        self.shifts = tuple(shifts)
        low, high = min(shifts), max(shifts)
        self.column = f"accuracy[%,shift={low}]" if low == high else f"accuracy[%,shift={low}..{high}]"

    def update(self, clip: int, audio: Tensor, face: Tensor) -> None:
        """Add a whole clip.

        Args:
            clip: its number.
            audio: unit vectors (n, d) of the windows that begin at frames 0, 1, 2, ….
            face: the same of the pictures.
        """
        own = (face * audio).sum(-1)
        choices = []
        for shift in self.shifts:
            for face_from, audio_from in ((0, shift), (shift, 0)):
                count = len(own) - shift
                if count > 0:
                    pictures = slice(face_from, face_from + count)
                    other = (face[pictures] * audio[audio_from : audio_from + count]).sum(-1)
                    choices.append(_won(own[pictures], other))
        if choices:
            self.record(clip, 100 * torch.cat(choices))


def _won(own: Tensor, other: Tensor) -> Tensor:
    """1 where ``own`` is greater, ½ where equal, else 0."""
    return (own > other).double() + 0.5 * (own == other).double()
