"""Losses on motion, by hand; and what a sync expert on lips as numbers teaches."""

from __future__ import annotations

import pytest
import torch

from talkgen.losses.motion import motion_errors, region_weights
from talkgen.losses.motion_sync import MotionSyncLoss
from talkgen.losses.weights import MotionWeights
from talkgen.models.experts.motion_syncnet import MotionSyncNet

SIZES = (2, 1, 1)
WEIGHT = region_weights(SIZES, MotionWeights(lip=1.0, eye=2.0, rest=0.5))


def test_the_weights_of_a_region_add_up() -> None:
    assert WEIGHT.tolist() == [0.5, 0.5, 2.0, 0.5]
    assert region_weights((4,), MotionWeights(1.0, 2.0, 0.5)).tolist() == [0.875] * 4


def test_errors_by_hand() -> None:
    truth = torch.zeros(1, 5, 4)
    generated = torch.zeros(1, 5, 4)
    generated[0, 3, 2] = 2.0  # one eye number, off by 2 in one frame
    known = torch.zeros(1, 5)
    errors = motion_errors(generated, truth, known, SIZES, WEIGHT)
    assert errors.motion.tolist() == pytest.approx([2 * 4 / 5])
    assert errors.velocity.tolist() == pytest.approx([2 * (4 + 4) / 5])
    assert errors.regions[0].tolist() == pytest.approx([0, 4 / 5, 0])
    # third differences of 0 0 0 2 0: 2, −6
    assert errors.smoothness.tolist() == pytest.approx([2 * (4 + 36) / 2])


def test_known_frames_do_not_count() -> None:
    truth, generated = torch.zeros(1, 5, 4), torch.full((1, 5, 4), 3.0)
    known = torch.tensor([[1.0, 1, 1, 1, 0]])
    errors = motion_errors(generated, truth, known, SIZES, WEIGHT)
    assert errors.regions[0].tolist() == pytest.approx([9, 9, 9])
    assert errors.velocity.tolist() == pytest.approx([9 * 3.5])  # the step out of what is known


@pytest.mark.parametrize("final_relu", [False, True])
def test_the_gradient_of_sync_reaches_lips_and_no_expert(final_relu: bool) -> None:
    torch.manual_seed(0)
    loss = MotionSyncLoss(MotionSyncNet(7, 6, width=8, dim=8, final_relu=final_relu))
    mouth = torch.randn(2, 9, 6, requires_grad=True)
    heard = torch.randn(2, 9, 7)
    assert loss.agreement(mouth, heard).shape == (2 * 5,)
    value = loss(mouth, heard)
    value.backward()
    assert mouth.grad is not None and float(mouth.grad.abs().sum()) > 0
    assert not list(loss.parameters()) and not loss.state_dict()
    other = loss.agreement(mouth[:1, 2:7], heard[:1, 2:7])
    torch.testing.assert_close(other, loss.agreement(mouth, heard)[2:3])


def test_an_expert_sees_motion_and_not_the_face() -> None:
    torch.manual_seed(0)
    expert = MotionSyncNet(7, 6, width=8, dim=8).eval()
    mouth = torch.randn(3, 5, 6)
    torch.testing.assert_close(expert.embed_mouth(mouth), expert.embed_mouth(mouth + torch.randn(3, 1, 6)))
    assert expert.embed_audio(torch.randn(3, 5, 7)).norm(dim=1).tolist() == pytest.approx([1, 1, 1])
