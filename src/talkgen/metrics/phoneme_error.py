"""Are the lips right for every sound, rare ones too?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipStatistic
from talkgen.metrics.exact_motion import part_of, unposed_landmarks
from talkgen.metrics.footage import Footage


class PhonemeError(ClipStatistic):
    """Distance of the lips' landmarks from the exact ones, first the mean over the frames of each sound, then
    over the sounds: one that is heard for two frames counts as much as a pause of thirty.

    In hundredths of the distance of the eyes' outer corners, as ``ExactLandmarkError``.
    """

    higher_is_better = False
    digits: ClassVar[int] = 2
    needs = frozenset({"phonemes"})
    column = "phoneme error[lip,% of the eyes' distance]"

    def frame_rows(self, footage: Footage) -> Tensor:
        """Distance and number of the sound (t, 2)."""
        motion = footage.motion
        assert motion is not None and motion.sounds is not None  # by ``needs``
        tracks = (unposed_landmarks(motion.model, x) for x in (motion.generated, motion.truth))
        ours, theirs = (part_of(points, "lip") for points in tracks)
        return torch.stack([(ours - theirs).norm(dim=-1).mean(1), motion.sounds.double()], 1)

    def statistic(self, rows: Tensor) -> float:
        """Of one clip."""
        return float(torch.tensor(list(_of_sounds(rows).values()), dtype=torch.float64).mean())

    def per_sound(self) -> dict[int, float]:
        """Number of a sound → mean distance in all frames in which it is heard."""
        return _of_sounds(torch.cat(list(self.rows))) if len(self.rows) else {}


def _of_sounds(rows: Tensor) -> dict[int, float]:
    return {int(sound): float(rows[rows[:, 1] == sound, 0].mean()) for sound in rows[:, 1].unique()}
