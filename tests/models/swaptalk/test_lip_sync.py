"""The lip-sync module: what it sees and what it cannot see, and how it warps."""

from __future__ import annotations

import pytest
import torch

from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.layers.temporal_attention import TemporalAttention, time_position
from talkgen.models.swaptalk.face_warping import FaceWarping, sample
from talkgen.models.swaptalk.lip_sync import LipSync, nearest_codes
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan

TINY = {
    "dim": 8, "width": 16, "multipliers": (1, 2), "blocks": 1, "heads": 2, "warp_width": 8, "audio_width": 16,
    "grid": (4, 8),
}  # fmt: skip


def make(seed: int = 0, **changes) -> LipSync:
    """A module in which nothing is zero any more, as after some training."""
    torch.manual_seed(seed)
    module = LipSync(**(TINY | changes)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return module


def inputs(b: int = 2, t: int = 5, r: int = 1, rows: int = 4, columns: int = 8):
    generator = torch.Generator().manual_seed(1)
    upper = torch.randn(b, t, 8, rows, columns, generator=generator)
    reference = torch.randn(b, r, 8, 2 * rows, columns, generator=generator)
    return upper, reference, torch.randn(b, t, 1, 80, 16, generator=generator)


def make_vqgan() -> VQGAN:
    torch.manual_seed(0)
    return build_vqgan(8, (1, 1, 2), 1, latent_channels=8, codes=16, code_dim=8, kmeans_vectors=0).eval()


@pytest.mark.parametrize("options", [{}, {"temporal": False, "pose": False, "residual": False}])
@pytest.mark.parametrize("size", [(4, 8), (5, 10), (3, 7)])
def test_lower_halves_of_any_size(options, size):
    upper, reference, mel = inputs(r=2, rows=size[0], columns=size[1])
    assert make(**options)(upper, reference, mel).shape == upper.shape


def test_begins_as_the_copied_reference():
    """Zero offsets and zero change: before training the reference's lower half comes out."""
    torch.manual_seed(0)
    module = LipSync(**TINY).eval()
    module.scale.set_from(torch.randn(40, 8) * 3 + 1)
    upper, reference, mel = inputs()
    lower = reference[:, :1, :, 4:].expand_as(upper)
    assert torch.allclose(module(upper, reference, mel), lower, atol=1e-5)


def test_every_input_matters():
    module = make()
    upper, reference, mel = inputs()
    out = module(upper, reference, mel)
    for changed in (
        (upper + 0.5 * torch.randn_like(upper), reference, mel),
        (upper, reference + 0.5 * torch.randn_like(reference), mel),
        (upper, reference, mel + torch.randn_like(mel)),
    ):
        assert (module(*changed) - out).abs().max() > 1e-3


def test_the_targets_mouth_cannot_be_seen():
    """Pictures that differ in the lower half alone: upper codes and what is generated are the same."""
    vqgan, module = make_vqgan(), make()
    module.scale.set_from(codebook_vectors(vqgan))
    torch.manual_seed(2)
    picture = torch.rand(5, 3, 32, 32) * 2 - 1
    other = picture.clone()
    other[:, :, 16:] = torch.rand(5, 3, 16, 32) * 2 - 1
    codes, moved = vqgan.encode_codes(picture), vqgan.encode_codes(other)
    assert torch.equal(codes[:, :4], moved[:, :4]), "the upper codes move when the mouth does"
    assert not torch.equal(codes[:, 4:], moved[:, 4:])
    reference = vqgan.lookup(codes[:1])[None]
    mel = torch.randn(1, 5, 1, 80, 16)
    first, second = (
        module(vqgan.lookup(seen).chunk(2, dim=2)[0][None], reference, mel) for seen in (codes, moved)
    )
    assert torch.equal(first, second)


def test_a_whole_picture_encoder_would_show_the_mouth():
    """The test above can fail: without halves the upper latents do move."""
    torch.manual_seed(0)
    vqgan = build_vqgan(8, (1, 1, 2), 1, latent_channels=8, codes=16, code_dim=8, halves=False).eval()
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    other = picture.clone()
    other[:, :, 20:] = 0
    change = vqgan.encode_continuous(other) - vqgan.encode_continuous(picture)
    assert change[:, :, :4].abs().max() > 1e-3


def test_reference_features_once_a_clip():
    module = make()
    upper, reference, mel = inputs(r=3)
    kept = module.reference_features(reference)
    assert torch.equal(module(upper, kept, mel), module(upper, reference, mel))


def test_order_of_references_does_not_matter():
    module = make()
    upper, reference, mel = inputs(r=3)
    assert torch.allclose(module(upper, reference, mel), module(upper, reference.flip(1), mel), atol=1e-4)


def test_frames_are_apart_without_attention_along_time():
    upper, reference, mel = inputs()
    changed = mel.clone()
    changed[:, 2] += 1
    for temporal in (False, True):
        module = make(temporal=temporal)
        moved = (module(upper, reference, changed) - module(upper, reference, mel)).abs().amax((0, 2, 3, 4))
        assert moved[2] > 1e-3
        assert bool((moved[[0, 1, 3, 4]] > 1e-5).all()) == temporal


def test_hears_features_of_another_network():
    module = make(audio_dim=384)
    upper, reference, _ = inputs()
    heard = torch.randn(2, 5, 384)
    assert module(upper, reference, heard).shape == upper.shape
    assert (module(upper, reference, heard + 1) - module(upper, reference, heard)).abs().max() > 1e-3


def test_scale_of_the_codebook_does_not_matter():
    upper, reference, mel = inputs()
    small, large = make(), make()
    vectors = torch.randn(50, 8)
    small.scale.set_from(vectors)
    large.scale.set_from(10 * vectors - 3)
    expected = 10 * small(upper, reference, mel) - 3
    assert torch.allclose(large(10 * upper - 3, 10 * reference - 3, mel), expected, atol=1e-2)


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_sampling_by_hand(size):
    x = torch.randn(2, 3, *size)
    nowhere = torch.zeros(2, 2, *size)
    assert torch.allclose(sample(x, nowhere), x, atol=1e-6)
    right, down = nowhere.clone(), nowhere.clone()
    right[:, 0], down[:, 1] = 1, 1
    assert torch.allclose(sample(x, right)[..., :-1], x[..., 1:], atol=1e-5)
    assert torch.allclose(sample(x, right)[..., -1], x[..., -1], atol=1e-5), "the border is held"
    assert torch.allclose(sample(x, down)[:, :, :-1], x[:, :, 1:], atol=1e-5)
    half = nowhere.clone()
    half[:, 0] = 0.5
    assert torch.allclose(sample(x, half)[..., :-1], (x[..., :-1] + x[..., 1:]) / 2, atol=1e-5)


def test_offsets_begin_as_nothing_and_stay_bounded():
    warping = FaceWarping(8, 8, reach=2.5)
    target, reference = torch.randn(2, 3, 8, 4, 8), torch.randn(2, 2, 8, 4, 8)
    offset, score = warping.offsets(target, reference)
    assert offset.shape == (2, 3, 2, 2, 4, 8)
    assert score.shape == (2, 3, 2, 1, 4, 8)
    assert not offset.any()
    torch.nn.init.normal_(warping.out.weight, std=50)
    assert 2 < warping.offsets(target, reference)[0].abs().max() <= 2.5


def test_the_same_pose_has_one_offset_whatever_the_pose():
    """Only the difference of the features counts."""
    warping = FaceWarping(8, 8, reach=2.0)
    torch.nn.init.normal_(warping.out.weight)
    features = torch.randn(1, 1, 8, 4, 8)
    first = warping.offsets(features, features)[0]
    assert torch.allclose(first, warping.offsets(features + 3, features + 3)[0], atol=1e-5)


def test_nearest_codes_give_codes_back():
    vqgan = make_vqgan()
    codes = torch.randint(16, (2, 3, 8, 8))
    lower = torch.stack([vqgan.lookup(window) for window in codes]).chunk(2, dim=3)[1]
    assert torch.equal(nearest_codes(vqgan, lower + 1e-4), codes[:, :, 4:])


def test_attention_along_time_begins_as_nothing():
    attention = TemporalAttention(8, 2)
    x = torch.randn(6, 8, 3, 4)
    assert torch.equal(attention(x, 3), x)
    torch.nn.init.normal_(attention.attention.out.weight)
    assert attention(x, 3).shape == x.shape
    # Positions are apart, and so are windows.
    changed = x.clone()
    changed[0, :, 1, 2] = torch.randn(8)
    moved = (attention(changed, 3) - attention(x, 3)).abs().amax(1) > 1e-6
    assert moved[:3, 1, 2].all()
    moved[:3, 1, 2] = False
    assert not moved.any()


def test_frames_know_their_place():
    position = time_position(7, 16)
    assert position.shape == (7, 16)
    assert (torch.cdist(position, position) + 9 * torch.eye(7)).min() > 0.3
