"""What a metric is shown: a run of frames of one clip, generated beside ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from talkgen.metrics.exact_motion import ExactMotion

Region = Literal["full", "mouth", "background"]

MOUTH_POINTS = slice(48, 68)
"""The 20 mouth points of the 68 iBUG points."""


@dataclass(frozen=True)
class CodeIndices:
    """What one codebook gave to some frames: ``indices`` int64 (t, …), each below ``codebook_size``."""

    indices: Tensor
    codebook_size: int


@dataclass(frozen=True)
class Footage:
    """Consecutive frames of one clip. A long clip comes in several pieces, so that memory stays constant.

    Everything that costs time (decoding, detection, codes) is done once by whoever builds the piece and is
    shared by all metrics. A point or box that a detector missed is NaN.

    Args:
        clip: number of the clip in the evaluation's list of clips.
        generated: uint8 RGB (t, h, w, 3).
        ground_truth: the same shape: what the frames should be. Where that is not known (``truth_known``
            False: a face swap whose result nobody has seen), the target's frames, for the shape alone.
        mouth_points: ground-truth mouth points of the corpus, (t, 20, 2) pixels; they place the mouth region.
        generated_landmarks: float32 (t, 68, 2) pixels, detected on ``generated``.
        ground_truth_landmarks: the same, by the same detector, on ``ground_truth``.
        codes: codebook name → indices of ``generated``, for models that have codebooks.
        truth_known: whether ``ground_truth`` is the truth.
        target: the frames that a model was given; None: the same as ``ground_truth``.
        target_landmarks: detected on ``target``; None: the same as ``ground_truth_landmarks``.
        corpus_landmarks: the corpus' own points of the target, (t, 68, 2) pixels.
        identities: unit vectors (t, d) of ``generated``, by a recogniser; NaN where it was shown nothing.
        gallery: unit vectors (people, d) of pictures of known people.
        wanted: which of the gallery ``generated`` should show; None: nobody of it.
        sound: that of the frames, float32 in [-1, 1], mono, 16 kHz: t / fps · 16000 samples.
        motion: the coefficients behind ``generated`` and the exact ones, where both are known.
    """

    clip: int
    generated: Tensor
    ground_truth: Tensor
    mouth_points: Tensor | None = None
    generated_landmarks: Tensor | None = None
    ground_truth_landmarks: Tensor | None = None
    codes: Mapping[str, CodeIndices] = field(default_factory=dict)
    truth_known: bool = True
    target: Tensor | None = None
    target_landmarks: Tensor | None = None
    corpus_landmarks: Tensor | None = None
    identities: Tensor | None = None
    gallery: Tensor | None = None
    wanted: int | None = None
    sound: Tensor | None = None
    motion: ExactMotion | None = None

    def __post_init__(self) -> None:
        for name, frames in (("generated", self.generated), ("ground_truth", self.ground_truth)):
            if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
                raise ValueError(
                    f"{name} must be uint8 (t, h, w, 3), not {frames.dtype} {tuple(frames.shape)}"
                )
        if self.generated.shape != self.ground_truth.shape:
            shapes = tuple(self.generated.shape), tuple(self.ground_truth.shape)
            raise ValueError(f"generated and ground_truth differ in shape: {shapes[0]} and {shapes[1]}")
        for name in (
            "mouth_points",
            "generated_landmarks",
            "ground_truth_landmarks",
            "target",
            "target_landmarks",
            "corpus_landmarks",
            "identities",
        ):
            points = getattr(self, name)
            if points is not None and len(points) != len(self.generated):
                raise ValueError(f"{name} has {len(points)} frames, the footage has {len(self.generated)}")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.generated)

    def has(self, need: str) -> bool:
        """Whether what a metric names in its ``needs`` is known.

        ``"truth"``, ``"mouth"`` (points of the corpus), ``"corpus"`` (all of its points), ``"landmarks"``,
        ``"identity"``, ``"wanted"`` (whom the frames should show), ``"sound"``,
        ``"motion"``, ``"phonemes"`` (that of exact motion).
        """
        return {
            "truth": self.truth_known,
            "mouth": self.mouth_points is not None,
            "corpus": self.corpus_landmarks is not None,
            "landmarks": self.generated_landmarks is not None and self.ground_truth_landmarks is not None,
            "identity": self.identities is not None,
            "wanted": self.gallery is not None and self.wanted is not None,
            "sound": self.sound is not None,
            "motion": self.motion is not None,
            "phonemes": self.motion is not None and self.motion.sounds is not None,
        }[need]

    def mask(self, region: Region) -> Tensor | None:
        """The pixels of a region, bool (t, h, w); None for the full frame."""
        if region == "mouth" and self.mouth_points is not None:
            return mouth_mask(self.mouth_points, *self.generated.shape[1:3])
        if region == "background" and self.corpus_landmarks is not None:
            return ~face_box_mask(self.corpus_landmarks, *self.generated.shape[1:3])
        return None


def mouth_mask(mouth_points: Tensor, height: int, width: int, widen: float = 1.5) -> Tensor:
    """The mouth region as a bool mask (t, height, width).

    A square around the middle of the points' bounding box, its side the longer side of the box × ``widen``,
    so that lips, the skin around them and an opening jaw are inside. The mask of NaN points is empty.
    """
    low, high = mouth_points.amin(1), mouth_points.amax(1)
    centre = (low + high) / 2
    reach = (high - low).amax(1, keepdim=True) * widen / 2
    return _box_mask(centre - reach, centre + reach, height, width)


def face_box_mask(landmarks: Tensor, height: int, width: int) -> Tensor:
    """The box of a face, hairline to under the chin and ear to ear, as a bool mask (t, height, width).

    The 68 points (t, 68, 2) reach from the brows to the chin, three quarters of a face; their box is widened
    by an eighth at the sides and below and by five eighths of its height above.
    """
    low, high = landmarks.amin(1), landmarks.amax(1)
    size = high - low
    return _box_mask(low - size * torch.tensor([0.125, 0.625]), high + size * 0.125, height, width)


def _box_mask(low: Tensor, high: Tensor, height: int, width: int) -> Tensor:
    """Pixels between the corners ``low`` and ``high``, each (t, 2)."""
    x, y = torch.arange(width), torch.arange(height)
    columns = (x >= low[:, :1]) & (x <= high[:, :1])
    rows = (y >= low[:, 1:]) & (y <= high[:, 1:])
    return rows[:, :, None] & columns[:, None, :]
