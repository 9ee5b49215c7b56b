"""Footage refuses what metrics cannot use; the mouth region is where the mouth is."""

from __future__ import annotations

import pytest
import torch

from talkgen.metrics.footage import Footage, mouth_mask


def test_mouth_mask_is_a_square_around_the_points() -> None:
    points = torch.zeros(2, 20, 2)
    points[0, :, 0] = torch.linspace(10, 30, 20)  # 20 wide, centre 20
    points[0, :, 1] = torch.linspace(36, 44, 20)  # 8 high, centre 40
    points[1] = float("nan")
    mask = mouth_mask(points, height=64, width=48, widen=1.5)
    rows, columns = mask[0].any(1).nonzero().flatten(), mask[0].any(0).nonzero().flatten()
    assert (int(columns[0]), int(columns[-1])) == (5, 35)
    assert (int(rows[0]), int(rows[-1])) == (25, 55)
    assert int(mask[0].sum()) == 31 * 31
    assert not mask[1].any()


def test_footage_refuses_floats_and_pairs_of_different_size() -> None:
    good = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="uint8"):
        Footage(clip=0, generated=good.float(), ground_truth=good)
    with pytest.raises(ValueError, match="differ in shape"):
        Footage(clip=0, generated=good, ground_truth=good[:1])
    with pytest.raises(ValueError, match="mouth_points has 3 frames"):
        Footage(clip=0, generated=good, ground_truth=good, mouth_points=torch.zeros(3, 20, 2))
