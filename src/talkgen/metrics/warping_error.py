"""Flicker: how far neighbouring frames differ where the motion of the ground truth says they should not."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.metrics.frame_pairs import FramePairs
from talkgen.metrics.optical_flow import farneback, fetch, occluded
from talkgen.metrics.shared_features import SharedFeatures


def warping_error(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    flow: NDArray[np.float32],
    back: NDArray[np.float32],
) -> float:
    """Mean squared difference of the first frame and the second fetched along the flow (Lai et al. 2018).

    Args:
        first: (h, w, 3) in [0, 1].
        second: the next frame.
        flow: from the first to the second (h, w, 2) in pixels.
        back: from the second to the first.

    Returns:
        Mean over the pixels that both frames show, and channels; NaN where there are none.
    """
    seen = ~occluded(flow, back)
    if not seen.any():
        return float("nan")
    error = fetch(second, flow) - first
    return float((np.einsum("hwc,hwc->hw", error, error, dtype=np.float64) * seen).sum() / (3 * seen.sum()))


def _every_flow(frames: Tensor) -> Tensor:
    pictures = frames.numpy()
    flows = [farneback(one, following) for one, following in itertools.pairwise(pictures)]
    return torch.from_numpy(np.stack(flows))


_flows = SharedFeatures(_every_flow, entries=3)
"""uint8 (t, h, w, 3) → (t − 1, h, w, 2): all rows of a table ask for those of the same ground truth."""


def _every_warping_error(generated: Tensor, ground_truth: Tensor) -> Tensor:
    frames = generated.numpy() / np.float32(255)
    flows = _flows(ground_truth).numpy()
    backs = _flows(ground_truth.flip(0)).flip(0).numpy()
    values = [
        1000 * warping_error(frames[t], frames[t + 1], flow, back)
        for t, (flow, back) in enumerate(zip(flows, backs, strict=True))
    ]
    return torch.tensor(values, dtype=torch.float64)


def _every_flow_difference(generated: Tensor, ground_truth: Tensor) -> Tensor:
    middle = (slice(None), middle_slice(generated.shape[1]), middle_slice(generated.shape[2]))
    differences = _flows(generated)[middle] - _flows(ground_truth)[middle]
    return differences.norm(dim=-1).flatten(1).mean(1).double()


_warping_errors = SharedFeatures(_every_warping_error, name="warping error farneback")
_flow_differences = SharedFeatures(_every_flow_difference, name="tof farneback")


class WarpingError(FramePairs):
    """Warping error of the generated frames along the flow of the true ones, × 1000.

    Published values use the flow of FlowNet2; this is Farnebäck's, so that they do not compare.
    """

    higher_is_better = False
    needs = frozenset({"truth"})
    column = "warping error×1000[farneback]"

    def pair_values(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """One value a pair."""
        return _warping_errors(generated, ground_truth)


class TOF(FramePairs):
    """tOF of TecoGAN (Chu et al. 2020): mean length of the difference of generated and true flow, in pixels.

    Flow is Farnebäck's. As in its script, the middle of the frame counts alone: its sides cut to multiples of
    32 that leave at least 16 pixels out. The script also leaves out two frames at both ends of a clip, which
    are counted here.
    """

    higher_is_better = False
    needs = frozenset({"truth"})
    column = "tOF[farneback,px]"

    def pair_values(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """One value a pair; NaN for frames below 48 pixels."""
        return _flow_differences(generated, ground_truth)


def middle_slice(length: int) -> slice:
    """The middle of a side: the longest multiple of 32 that leaves out at least 16 pixels."""
    size = max(length - 16, 0) // 32 * 32
    start = (length - size) // 2
    return slice(start, start + size)
