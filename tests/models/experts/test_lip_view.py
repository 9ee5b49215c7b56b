"""The box around the face, by hand."""

from __future__ import annotations

import pytest
import torch

from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import syncnet_input


def make_landmarks(brows: float, chin: float, right: float, left: float) -> torch.Tensor:
    points = torch.zeros(1, 5, 68, 2)
    points[:, :, 17:27, 1] = brows
    points[:, :, 8, 1] = chin
    points[:, :, 0, 0], points[:, :, 16, 0] = right, left
    return points


def test_box_by_hand():
    """Brows at 20, chin at 60: a box of 1.35·40 = 54 pixels from row 20 − 10 on, around column 50."""
    matrix = LipView(above=0.25, below=0.1).matrix(make_landmarks(20, 60, 40, 60), 108)[0]
    corner = matrix @ torch.tensor([50.0 - 27.0, 10.0, 1.0])  # the top-left corner of the box
    assert matrix[0, 0] == pytest.approx(2)
    assert corner.tolist() == pytest.approx([-0.5, -0.5])


def test_an_opening_jaw_does_not_move_the_box():
    open_mouth = make_landmarks(20, 60, 40, 60)
    open_mouth[:, 2, 8, 1] = 65
    video = torch.rand(1, 5, 3, 100, 100)
    view = LipView()(video, open_mouth)
    assert view.shape == (1, 5, 3, 96, 96)
    still = LipView()(video[:, :1].expand_as(video), open_mouth)
    assert torch.equal(still[:, 0], still[:, 4])


def test_motion_leaves_what_moves():
    video = torch.rand(1, 1, 3, 100, 100).expand(1, 5, 3, 100, 100).clone()
    video[:, 3, :, 50:60, 45:55] += 1
    landmarks = make_landmarks(20, 60, 40, 60)
    view = LipView(motion=True, contrast=1.0)(video, landmarks)
    torch.testing.assert_close(view.mean(1), torch.full_like(view[:, 0], -1.0), atol=1e-6, rtol=0)
    assert view[:, 3].max() == pytest.approx(0.8 - 1, abs=1e-3)  # 1 less the mean of 0, 0, 0, 1, 0
    torch.testing.assert_close(view[:, :, :, :20], torch.full_like(view[:, :, :, :20], -1.0))
    strong = LipView(motion=True, contrast=7.0)(video, landmarks)
    torch.testing.assert_close(strong + 1, 7 * (view + 1), atol=1e-5, rtol=0)


def test_what_stands_still_is_what_convolutions_pad_with():
    still = torch.rand(1, 1, 3, 100, 100).expand(1, 5, 3, 100, 100)
    shown = syncnet_input(LipView(motion=True)(still, make_landmarks(20, 60, 40, 60)))
    assert shown.abs().max() < 1e-5


def test_every_frame_is_cut_alike():
    video = torch.rand(2, 5, 3, 100, 100)
    landmarks = torch.cat([make_landmarks(20, 60, 40, 60), make_landmarks(30, 70, 30, 60)])
    view = LipView()(video, landmarks)
    for t in range(5):
        alone = LipView()(video[:, t : t + 1], landmarks)
        torch.testing.assert_close(view[:, t : t + 1], alone)


def test_gradients_reach_the_video():
    video = torch.rand(1, 5, 3, 64, 64, requires_grad=True)
    LipView(motion=True)(video, make_landmarks(20, 60, 20, 40)).square().sum().backward()
    assert video.grad.abs().sum() > 0


def test_a_box_without_a_face_is_refused():
    with pytest.raises(ValueError, match="no face"):
        LipView(above=-1.0)
    with pytest.raises(ValueError, match="contrast"):
        LipView(contrast=0.0)
