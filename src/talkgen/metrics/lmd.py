"""Landmark distance. One name, many definitions: each is a function here, named after what it measures.

All take 68 iBUG points in pixels, float (t, 68, 2), generated and ground truth, and give one value a frame
(t,); the published number is the mean over frames. A frame with a missed face (NaN) gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import MOUTH_POINTS, Footage


def face_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mean L2 distance of the 68 points (Chen et al., ECCV 2018, equation of LMD)."""
    return (generated - ground_truth).norm(dim=-1).mean(-1)


def mouth_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mean L2 distance of the 20 mouth points: "mouth LMD" of most lip-sync papers."""
    return (generated - ground_truth)[:, MOUTH_POINTS].norm(dim=-1).mean(-1)


def centred_face_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mean L2 distance of the 68 points after each set's own mean is taken away."""
    return face_lmd(_centred(generated), _centred(ground_truth))


def centred_mouth_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mean L2 distance of the mouth points, each mouth's own mean taken away (RAD-NeRF's LMDMeter)."""
    distances = _centred(generated[:, MOUTH_POINTS]) - _centred(ground_truth[:, MOUTH_POINTS])
    return distances.norm(dim=-1).mean(-1)


def atvgnet_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Centred mouth points, the *sum* of the 20 distances (ATVGnet's script, on dlib's integer points)."""
    return 20 * centred_mouth_lmd(generated, ground_truth)


def l1_mouth_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mean absolute difference of the mouth's coordinates (LipLMD of the ViCo challenge)."""
    return (generated - ground_truth)[:, MOUTH_POINTS].abs().mean((1, 2))


def mouth_lmd_over_68(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Sum of the 20 mouth distances divided by 68 (M-LMD of the talking-head-metrics toolkit)."""
    return mouth_lmd(generated, ground_truth) * 20 / 68


def average_keypoint_distance(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mean absolute difference of all coordinates (AKD, pose-evaluation of first-order motion models)."""
    return (generated - ground_truth).abs().mean((1, 2))


def interocular_nme(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Face LMD as a share of the distance of the outer eye corners of the ground truth (NME; no unit)."""
    return face_lmd(generated, ground_truth) / (ground_truth[:, 36] - ground_truth[:, 45]).norm(dim=-1)


def interpupil_nme(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Face LMD as a share of the distance of the eye centres of the ground truth (no unit)."""
    eyes = ground_truth[:, 36:42].mean(1), ground_truth[:, 42:48].mean(1)
    return face_lmd(generated, ground_truth) / (eyes[0] - eyes[1]).norm(dim=-1)


def pose_free_mouth_lmd(generated: Tensor, ground_truth: Tensor) -> Tensor:
    """Mouth LMD after the generated face is laid on the true one by its 48 points outside the mouth.

    The similarity (rotation, scale, shift) is the least-squares one; what is left is the mouth's own error.
    """
    # Points as complex numbers: a similarity is z → a z + b; the best a is <z, w> / <z, z> of centred points.
    z, w = (torch.view_as_complex(points.double().contiguous()) for points in (generated, ground_truth))
    z = z - z[:, :48].mean(1, keepdim=True)
    w = w - w[:, :48].mean(1, keepdim=True)
    a = (z[:, :48].conj() * w[:, :48]).sum(1, keepdim=True) / z[:, :48].abs().square().sum(1, keepdim=True)
    return (a * z - w)[:, MOUTH_POINTS].abs().mean(1)


def _centred(points: Tensor) -> Tensor:
    return points - points.mean(1, keepdim=True)


CONVENTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "face": face_lmd,
    "mouth": mouth_lmd,
    "face,centred": centred_face_lmd,
    "mouth,centred": centred_mouth_lmd,
    "mouth,centred,sum": atvgnet_lmd,
    "mouth,l1": l1_mouth_lmd,
    "mouth,over68": mouth_lmd_over_68,
    "face,l1": average_keypoint_distance,
    "face,interocular": interocular_nme,
    "face,interpupil": interpupil_nme,
    "mouth,pose-free": pose_free_mouth_lmd,
}
"""Variant id → definition."""

_WITHOUT_UNIT = {"face,interocular", "face,interpupil"}


class LMD(ClipMetric):
    """Landmark distance between generated and true frames, both seen by the same detector.

    Distances are given at a frame width of ``reference_px``, so that a model of 128 px compares with one of
    256 px. Frames in which either face was missed are left out; ``DetectionMisses`` counts them.

    Args:
        convention: a key of ``CONVENTIONS``.
        reference_px: frame width that the pixels are given at.
    """

    higher_is_better = False
    needs = frozenset({"truth", "landmarks"})

    def __init__(self, convention: str = "mouth,centred", reference_px: int = 256) -> None:
        super().__init__()
        if convention not in CONVENTIONS:
            raise ValueError(f"no LMD convention {convention!r}; there are: {'; '.join(CONVENTIONS)}")
        self.convention = convention
        self.reference_px = reference_px
        unit = "" if convention in _WITHOUT_UNIT else f",px@{reference_px}"
        self.column = f"LMD[{convention}{unit}]"

    def frame_values(self, footage: Footage) -> Tensor:
        """Distance in each frame."""
        generated, ground_truth = footage.generated_landmarks, footage.ground_truth_landmarks
        assert generated is not None and ground_truth is not None  # by ``needs``
        scale = self.reference_px / footage.generated.shape[2]
        return CONVENTIONS[self.convention](generated.double() * scale, ground_truth.double() * scale)
