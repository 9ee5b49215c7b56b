"""Does the head point where the target's does?"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.shared_features import SharedFeatures, expert_device
from talkgen.models.experts.hopenet import degrees, load_hopenet, network_input

WEIGHTS = "hopenet"
BATCH_FRAMES = 16


@lru_cache(maxsize=1)
def head_angles() -> SharedFeatures:
    """uint8 frames (t, h, w, 3) → yaw, pitch, roll (t, 3) in degrees, by HopeNet on the whole frame."""
    device = expert_device()
    network = load_hopenet(WEIGHTS).to(device)

    def angles(frames: Tensor) -> Tensor:
        parts = frames.split(BATCH_FRAMES)
        return torch.cat([degrees(network(network_input(part.to(device)))) for part in parts])

    return SharedFeatures(angles)


def angle_distance(generated: Tensor, target: Tensor) -> Tensor:
    """‖(yaw, pitch, roll) − (yaw, pitch, roll)‖ of each frame, (t, 3) twice → (t,) in degrees."""
    return (generated - target).norm(dim=-1)


class PoseError(ClipMetric, NeedsWeights):
    """Distance of HopeNet's three angles between generated and target frames (FaceShifter's protocol).

    Frames must be face crops. Papers that take the distance of logits, or the mean error of an angle, give
    other numbers under the same name.
    """

    higher_is_better = False
    digits = 2
    weight_names = (WEIGHTS,)
    column = "pose error[hopenet,°]"

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing without weights."""
        if self.lacking is None:
            super().update(footage)

    def frame_values(self, footage: Footage) -> Tensor:
        """Distance in each frame, to the target that the model was given."""
        target = footage.ground_truth if footage.target is None else footage.target
        return angle_distance(head_angles()(footage.generated), head_angles()(target))
