"""Does the head point where the target's does, and does the face express what it should?"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage
from talkgen.metrics.required_weights import NeedsWeights, weight_digests
from talkgen.metrics.shared_features import SharedFeatures, expert_device, named
from talkgen.metrics.sync_crop import face_boxes
from talkgen.models.experts.hopenet import degrees, load_hopenet, network_input
from talkgen.models.experts.tddfa import TDDFA

Estimator = Literal["3ddfa", "hopenet"]

WEIGHTS: dict[Estimator, tuple[str, ...]] = {
    "3ddfa": ("tddfa_mb1", "tddfa_mean_std"),
    "hopenet": ("hopenet",),
}
BATCH_FRAMES = 16


@lru_cache(maxsize=1)
def hopenet_angles() -> SharedFeatures:
    """uint8 frames (t, h, w, 3) → yaw, pitch, roll (t, 3) in degrees, by HopeNet on the whole frame."""
    device = expert_device()
    network = load_hopenet("hopenet").to(device)

    def angles(frames: Tensor) -> Tensor:
        parts = frames.split(BATCH_FRAMES)
        return torch.cat([degrees(network(network_input(part.to(device)))) for part in parts])

    return SharedFeatures(angles, name=named("hopenet angles", weight_digests(WEIGHTS["hopenet"])))


@lru_cache(maxsize=1)
def tddfa_coefficients() -> SharedFeatures:
    """uint8 frames (t, h, w, 3), landmarks (t, 68, 2) → three angles in degrees and ten of expression."""
    network = TDDFA()

    def coefficients(frames: Tensor, landmarks: Tensor) -> Tensor:
        found = network(frames.numpy(), face_boxes(landmarks.numpy()))
        return torch.from_numpy(np.concatenate([found.angles, found.expression], 1))

    return SharedFeatures(coefficients, name=named("3ddfa", weight_digests(WEIGHTS["3ddfa"])))


def distance(generated: Tensor, target: Tensor) -> Tensor:
    """‖g − t‖ of each frame, (t, k) twice → (t,); NaN where either is."""
    return (generated - target).norm(dim=-1)


class PoseError(ClipMetric, NeedsWeights):
    """Distance of (yaw, pitch, roll) between generated and target frames in degrees, as FaceShifter has it.

    Papers that take the distance of logits, or the mean error of an angle, give other numbers under the same
    name.

    Args:
        estimator: ``"3ddfa"`` looks at the face that the landmarks show; ``"hopenet"``, which face-swap
            papers use, at the whole frame, which must be a face crop.
    """

    higher_is_better = False
    digits: ClassVar[int] = 2

    def __init__(self, estimator: Estimator = "3ddfa") -> None:
        super().__init__()
        if estimator not in WEIGHTS:
            raise ValueError(f"estimator is {' or '.join(WEIGHTS)}, not {estimator!r}")
        self.estimator: Estimator = estimator
        self.weight_names = WEIGHTS[estimator]
        self.needs = frozenset({"landmarks"} if estimator == "3ddfa" else ())
        self.column = f"pose error[{estimator},°]"

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing without weights."""
        if self.lacking is None:
            super().update(footage)

    def frame_values(self, footage: Footage) -> Tensor:
        """Distance in each frame, to the target that the model was given."""
        if self.estimator == "hopenet":
            target = footage.ground_truth if footage.target is None else footage.target
            return distance(hopenet_angles()(footage.generated), hopenet_angles()(target))
        target, points = footage.ground_truth, footage.ground_truth_landmarks
        if footage.target is not None and footage.target_landmarks is not None:
            target, points = footage.target, footage.target_landmarks
        assert points is not None and footage.generated_landmarks is not None  # by ``needs``
        coefficients = tddfa_coefficients()
        ours = coefficients(footage.generated, footage.generated_landmarks)
        return distance(ours[:, :3], coefficients(target, points)[:, :3])


class ExpressionError(ClipMetric, NeedsWeights):
    """Distance of 3DDFA_V2's ten expression coefficients between generated and true frames.

    Its unit is the network's own. Published values rest on other face models (64 coefficients of
    Deep3DFaceRecon, 50 of DECA) and do not compare.
    """

    higher_is_better = False
    digits: ClassVar[int] = 2
    needs = frozenset({"truth", "landmarks"})
    weight_names = WEIGHTS["3ddfa"]
    column = "expression error[3ddfa]"

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing without weights."""
        if self.lacking is None:
            super().update(footage)

    def frame_values(self, footage: Footage) -> Tensor:
        """Distance in each frame."""
        generated, truth = footage.generated_landmarks, footage.ground_truth_landmarks
        assert generated is not None and truth is not None  # by ``needs``
        coefficients = tddfa_coefficients()
        ours = coefficients(footage.generated, generated)
        theirs = coefficients(footage.ground_truth, truth)
        return distance(ours[:, 3:], theirs[:, 3:])
