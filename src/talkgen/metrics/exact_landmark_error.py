"""Landmark distance without a detector: between the motion that was generated and the exact one."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.exact_motion import PARTS, Part, part_of, unposed_landmarks
from talkgen.metrics.footage import Footage


class ExactLandmarkError(ClipMetric):
    """Mean distance of the landmarks of a part of the unposed mean head, in hundredths of the distance of its
    eyes' outer corners.

    Args:
        part: ``"lip"``, ``"eye"``, ``"brow"`` or the whole ``"face"``.
    """

    higher_is_better = False
    digits: ClassVar[int] = 2
    needs = frozenset({"motion"})

    def __init__(self, part: Part = "lip") -> None:
        super().__init__()
        if part not in PARTS:
            raise ValueError(f"part is one of {', '.join(PARTS)}, not {part!r}")
        self.part: Part = part
        self.column = f"exact landmark error[{part},% of the eyes' distance]"

    def frame_values(self, footage: Footage) -> Tensor:
        """Of each frame."""
        motion = footage.motion
        assert motion is not None  # by ``needs``
        tracks = (unposed_landmarks(motion.model, x) for x in (motion.generated, motion.truth))
        ours, theirs = (part_of(points, self.part) for points in tracks)
        return (ours - theirs).norm(dim=-1).mean(1)
