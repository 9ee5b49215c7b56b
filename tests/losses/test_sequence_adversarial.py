from __future__ import annotations

import pytest
import torch
from torch import nn

from talkgen.losses.adversarial import AdversarialLoss
from talkgen.losses.sequence_adversarial import SequenceAdversarialLoss, join_frames
from talkgen.models.discriminators.patch import PatchDiscriminator


def test_frames_lie_on_channels_in_order():
    video = torch.arange(2 * 5 * 3).view(2, 5, 3, 1, 1).expand(-1, -1, -1, 4, 6).float()
    joined = join_frames(video)
    assert joined.shape == (2, 15, 4, 6)
    assert joined[1, :, 0, 0].tolist() == list(range(15, 30))
    video = torch.zeros(1, 5, 3, 4, 6)
    video[..., 2:, :] = 1
    half = join_frames(video, lower_half=True)
    assert half.shape == (1, 15, 2, 6)
    assert (half == 1).all()


@pytest.mark.parametrize("kind", ["bce", "lsgan", "hinge"])
def test_each_side_wants_the_opposite(kind):
    """A discriminator that says the mean: brighter fakes please the generator and cost the discriminator."""

    class Mean(nn.Module):
        def forward(self, x):
            assert x.shape[1] == 15
            return x.mean((1, 2, 3))

    loss = SequenceAdversarialLoss(Mean(), AdversarialLoss(kind))
    fake = torch.zeros(2, 5, 3, 8, 8, requires_grad=True)
    loss.generator_loss(fake).backward()
    assert (fake.grad < 0).all()
    real = torch.ones_like(fake)
    bright = loss.discriminator_loss(fake + 0.5, real)
    assert bright > loss.discriminator_loss(fake, real)
    assert not bright.requires_grad  # nothing of the generator is in it


def test_flicker_is_learned_where_single_frames_look_real():
    """Real windows brighten steadily; generated ones hold the same frames in another order."""
    torch.manual_seed(0)
    loss = SequenceAdversarialLoss(PatchDiscriminator(15, channels=8, layers=1), AdversarialLoss("hinge"))
    optimizer = torch.optim.Adam(loss.discriminator.parameters(), 2e-3)
    ramp = torch.linspace(-0.8, 0.8, 5).view(1, 5, 1, 1, 1)
    for _ in range(60):
        real = (ramp + 0.05 * torch.randn(8, 5, 3, 8, 8)).clamp(-1, 1)
        fake = real[:, torch.tensor([0, 3, 1, 4, 2])]
        optimizer.zero_grad()
        value = loss.discriminator_loss(fake, real)
        value.backward()
        optimizer.step()
    assert value < 0.5  # 1 is guessing
