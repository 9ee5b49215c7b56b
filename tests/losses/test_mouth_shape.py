"""The mouth's shape, by hand, and what the hint teaches."""

from __future__ import annotations

import pytest
import torch

from talkgen.losses.mouth_shape import MouthShapeLoss, mouth_shape


def make_landmarks(opening: torch.Tensor) -> torch.Tensor:
    """Eyes 2 apart; a mouth 3 wide and ``opening`` open, (b, t)."""
    points = torch.zeros(*opening.shape, 68, 2)
    points[:, :, 42:48, 0] = 2
    points[:, :, 54, 0] = 3
    points[:, :, 66, 1] = opening
    points[:, :, 57, 1] = opening + 1
    return points


def test_by_hand():
    shape = mouth_shape(make_landmarks(torch.tensor([[0.0, 4.0]])))
    assert shape.tolist() == [pytest.approx([0, 1.5, 0.5, 2, 1.5, 2.5])]


def test_embeddings_learn_to_tell_the_opening():
    torch.manual_seed(0)
    opening = torch.rand(64, 5)
    loss = MouthShapeLoss(dim=16)
    encoder = torch.nn.Linear(5, 16)
    optimizer = torch.optim.Adam([*loss.parameters(), *encoder.parameters()], 0.02)
    values = []
    for _ in range(200):
        unit = torch.nn.functional.normalize(encoder(opening), dim=1)
        values.append(loss(unit, unit, make_landmarks(opening)))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.25 * values[0]
