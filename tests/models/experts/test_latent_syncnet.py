"""The latent sync expert: shapes, what it does not see, and gradients."""

from __future__ import annotations

import pytest
import torch

from talkgen.losses.latent_sync import LatentSyncLoss
from talkgen.models.experts.latent_syncnet import LatentSyncNet


def make_expert(**changes) -> LatentSyncNet:
    torch.manual_seed(0)
    arguments = {"dim": 6, "width": 16, "blocks": 1, "audio_width": 1 / 16, "grid": (4, 8)} | changes
    return LatentSyncNet(**arguments)


@pytest.mark.parametrize("size", [(4, 8), (5, 9), (20, 40)])
def test_unit_vectors_for_maps_of_any_size(size):
    expert = make_expert().eval()
    audio, face = expert(torch.randn(3, 1, 80, 16), torch.randn(3, 5, 6, *size))
    assert audio.shape == face.shape == (3, expert.dim) == (3, 32)
    for vectors in (audio, face):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


def test_sees_motion_alone():
    """What all frames of a window share changes nothing; without ``motion`` it does."""
    lower, still = torch.randn(2, 5, 6, 4, 8), torch.randn(2, 1, 6, 4, 8)
    moving, whole = make_expert(motion=True).eval(), make_expert(motion=False).eval()
    assert torch.allclose(moving.embed_face(lower), moving.embed_face(lower + still), atol=1e-5)
    assert not torch.allclose(whole.embed_face(lower), whole.embed_face(lower + still), atol=1e-2)


def test_scale_of_the_codebook_does_not_matter():
    vectors = torch.randn(50, 6)
    lower = torch.randn(2, 5, 6, 4, 8)
    small, large = make_expert().eval(), make_expert().eval()
    small.scale.set_from(vectors)
    large.scale.set_from(100 * vectors + 7)
    assert torch.allclose(small.embed_face(lower), large.embed_face(100 * lower + 7), atol=1e-3)


def test_final_relu_leaves_no_negative_component():
    expert = make_expert(final_relu=True).eval()
    audio, face = expert(torch.randn(4, 1, 80, 16), torch.randn(4, 5, 6, 4, 8))
    assert audio.min() >= 0
    assert face.min() >= 0
    assert (make_expert().eval().embed_face(torch.randn(4, 5, 6, 4, 8)) < 0).any()


def test_loss_reaches_the_lips_and_nothing_else():
    expert = make_expert()
    loss = LatentSyncLoss(expert)
    lower = torch.randn(4, 5, 6, 4, 8, requires_grad=True)
    value = loss(lower, torch.randn(4, 1, 80, 16))
    value.backward()
    assert lower.grad is not None
    assert lower.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in expert.parameters())
    assert not list(loss.parameters())
    assert not loss.train().expert.module.training


def test_loss_by_hand():
    """−log p of the same cosine, read as a probability in the two ways."""
    for final_relu in (False, True):
        expert = make_expert(final_relu=final_relu).eval()
        mel, lower = torch.randn(2, 1, 80, 16), torch.randn(2, 5, 6, 4, 8)
        audio, face = expert(mel, lower)
        cosine = (audio * face).sum(1)
        probability = cosine if final_relu else (1 + cosine) / 2
        expected = -(probability + 1e-4).log().mean()
        assert torch.allclose(LatentSyncLoss(expert)(lower, mel), expected)
