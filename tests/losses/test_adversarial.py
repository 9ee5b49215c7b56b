from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from talkgen.losses.adversarial import AdversarialLoss, adaptive_weight, r1_penalty

LOG = torch.tensor([1.0]).exp().log1p().item()  # softplus(1) = ln(1 + e)


@pytest.mark.parametrize(
    ("kind", "generator", "discriminator"),
    [
        # fake = [1, 2, 3], real = [0, 2]
        ("hinge", -2.0, 0.5 * ((1 + 0) / 2 + (2 + 3 + 4) / 3)),
        ("lsgan", 0.5 * (0 + 1 + 4) / 3, 0.5 * ((1 + 1) / 2 + (1 + 4 + 9) / 3)),
    ],
)
def test_hand_computed(kind: str, generator: float, discriminator: float) -> None:
    loss = AdversarialLoss(kind)
    fake, real = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0])
    assert loss.generator_loss(fake).item() == pytest.approx(generator)
    assert loss.discriminator_loss(fake=fake, real=real).item() == pytest.approx(discriminator)


def test_bce_by_hand() -> None:
    loss = AdversarialLoss("bce")
    one = torch.ones(2, 1, 3, 3)
    assert loss.generator_loss(-one).item() == pytest.approx(LOG)
    assert loss.discriminator_loss(fake=one, real=-one).item() == pytest.approx(LOG)
    assert loss.discriminator_loss(fake=-one, real=one).item() == pytest.approx(LOG - 1)


@pytest.mark.parametrize("kind", ["hinge", "lsgan", "bce"])
def test_both_sides_move_logits_the_right_way(kind: str) -> None:
    loss = AdversarialLoss(kind)
    fake = torch.full((4,), 0.5, requires_grad=True)
    real = torch.full((4,), 0.5, requires_grad=True)
    loss.discriminator_loss(fake, real).backward()
    assert (fake.grad > 0).all() and (real.grad < 0).all()  # a step goes against the gradient
    fake.grad = None
    loss.generator_loss(fake).backward()
    assert (fake.grad < 0).all()


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="wgan"):
        AdversarialLoss("wgan")


def test_lecam_adds_distance_to_running_means() -> None:
    loss = AdversarialLoss("hinge", lecam=2.0, decay=0.5)
    fake, real = torch.tensor([-1.0]), torch.tensor([1.0])
    # means become 0.5 and −0.5; real is 1.5 above the fake mean, fake 1.5 below the real mean
    assert loss.discriminator_loss(fake, real).item() == pytest.approx(2 * (1.5**2 + 1.5**2))
    assert set(loss.state_dict()) == {"mean_real", "mean_fake"}


def test_r1_of_a_linear_discriminator() -> None:
    weight = torch.tensor([3.0, 4.0])
    picture = torch.randn(5, 2, 1, 1, requires_grad=True)
    logits = (picture.flatten(1) * weight).sum(1)
    assert r1_penalty(picture, logits).item() == pytest.approx(12.5)


def test_adaptive_weight_is_the_ratio_of_gradients_up_to_its_bound() -> None:
    layer = nn.Parameter(torch.tensor([1.0, -2.0]))
    reconstruction, generator = (
        (layer * torch.tensor([3.0, 4.0])).sum(),
        (layer * torch.tensor([6.0, 8.0])).sum(),
    )
    assert adaptive_weight(reconstruction, generator, layer).item() == pytest.approx(0.5, abs=1e-4)
    assert adaptive_weight(generator, reconstruction, layer).item() == 1.0
    assert adaptive_weight(generator, reconstruction, layer, maximum=10).item() == pytest.approx(2, abs=1e-3)
    assert not adaptive_weight(generator, reconstruction, layer).requires_grad


def _losses(samples: torch.Tensor, layer: nn.Parameter) -> tuple[torch.Tensor, torch.Tensor]:
    return (samples @ layer).square().mean(), (samples.roll(1, 1) @ layer).sin().mean() * 40


def _process(folder: str, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    layer = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    weight = adaptive_weight(*_losses(_samples()[rank::2], layer), layer)
    torch.save(weight, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _samples() -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def test_adaptive_weight_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    command = [sys.executable, __file__, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    layer = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    alone = adaptive_weight(*_losses(_samples(), layer), layer)
    apart = [adaptive_weight(*_losses(_samples()[rank::2], layer), layer) for rank in range(2)]
    assert 0 < alone < 1 and abs(apart[0] - apart[1]) > 0.05  # else the test would show nothing
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert both[0] == both[1]
    torch.testing.assert_close(both[0], alone)


if __name__ == "__main__":
    _process(sys.argv[1], int(sys.argv[2]))
