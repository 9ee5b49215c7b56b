from __future__ import annotations

import pytest
import torch

from talkgen.losses.reconstruction import region_box, region_weight, weighted_l1


def test_weights_choose_what_counts() -> None:
    truth = torch.zeros(1, 3, 2, 2)
    picture = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 3, 2, 2)
    assert weighted_l1(picture, truth).item() == pytest.approx(2.5)
    mask = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    assert weighted_l1(picture, truth, mask).item() == pytest.approx(4.0)
    weight = torch.tensor([[1.0, 0.0], [3.0, 0.0]]).view(1, 1, 2, 2)
    assert weighted_l1(picture, truth, weight).item() == pytest.approx((1 + 9) / 4)


def test_every_picture_counts_alike() -> None:
    """Halves of a batch, averaged, are the batch, though one weight covers more pixels than the other."""
    generated, truth = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    weight = torch.zeros(2, 1, 4, 4)
    weight[0, :, :2], weight[1, :, :, :1] = 1.0, 2.0
    apart = [weighted_l1(generated[i : i + 1], truth[i : i + 1], weight[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(weighted_l1(generated, truth, weight), sum(apart) / 2)


def test_region_boxes() -> None:
    landmarks = torch.full((2, 68, 2), 2.0)
    landmarks[:, 48:68] = torch.tensor([10.0, 20.0])
    landmarks[:, 48] = torch.tensor([6.0, 18.0])  # mouth box 6..10 × 18..20, with margin 5..11 × 17.5..20.5
    landmarks[:, 36:48] = torch.tensor([3.0, 4.0])  # eyes: one pixel
    weight = region_weight(landmarks, height=24, width=16, mouth=5.0, eyes=2.0)
    assert weight.shape == (2, 1, 24, 16)
    inside = torch.ones(24, 16)
    inside[18:21, 5:12] = 5.0
    inside[4, 3] = 2.0
    torch.testing.assert_close(weight[1, 0], inside)
    torch.testing.assert_close(region_box(landmarks, 24, 16, "mouth")[0, 0], (inside == 5.0).float())
    torch.testing.assert_close(region_box(landmarks, 24, 16, "eyes")[0, 0], (inside == 2.0).float())


def test_overlap_takes_the_larger() -> None:
    landmarks = torch.full((1, 68, 2), 4.0)
    for order in ((3.0, 2.0), (2.0, 3.0)):
        weight = region_weight(landmarks, 8, 8, mouth=order[0], eyes=order[1])
        assert weight[0, 0, 4, 4].item() == 3.0
