from __future__ import annotations

import copy

import torch
from torch import nn

from talkgen.models.frozen import Frozen


class Holder(nn.Module):
    """A system in small: something trained beside something frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Linear(4, 4)
        self.expert = Frozen(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)))


def test_statistics_and_weights_do_not_move() -> None:
    torch.manual_seed(0)
    holder = Holder()
    before = copy.deepcopy(holder.expert.module.state_dict())
    holder.train()
    optimizer = torch.optim.SGD(holder.parameters(), lr=1.0)
    for _ in range(3):
        holder.expert(holder.trained(torch.randn(8, 4))).square().sum().backward()
        optimizer.step()
    assert holder.trained.training and not holder.expert.module.training
    after = holder.expert.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert holder.trained.weight.grad is not None


def test_dropout_is_off_and_the_input_gets_a_gradient() -> None:
    holder = Holder().train()
    x = torch.randn(5, 4, requires_grad=True)
    torch.testing.assert_close(holder.expert(x), holder.expert(x))
    holder.requires_grad_(True)
    assert not any(p.requires_grad for p in holder.expert.module.parameters())
    holder.expert(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_checkpoints_and_optimisers_do_not_see_it() -> None:
    holder = Holder()
    assert set(holder.state_dict()) == {"trained.weight", "trained.bias"}
    assert len(list(holder.parameters())) == 2 and not list(holder.buffers())
    assert Holder().load_state_dict(holder.state_dict(), strict=True)


def test_it_moves_with_its_holder() -> None:
    holder = Holder().to(torch.float64)
    assert {p.dtype for p in holder.expert.module.parameters()} == {torch.float64}
    assert holder.to("meta").expert.module[0].weight.device.type == "meta"


def test_a_copy_is_its_own() -> None:
    holder = Holder()
    copied = copy.deepcopy(holder)
    with torch.no_grad():
        copied.expert.module[0].weight.zero_()
    assert holder.expert.module[0].weight.abs().sum() > 0
