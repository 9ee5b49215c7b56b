from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from talkgen.models.swaptalk.face_swap import FaceSwap
from talkgen.models.swaptalk.face_swap_dit import FaceSwapDiT
from talkgen.models.swaptalk.face_swap_unet import FaceSwapUNet

DIM = 6
SMALL = {"width": 16, "heads": 2, "grid": (4, 4)}
BACKBONES = {
    "post": partial(FaceSwap, DIM, layers=2, norm="post", **SMALL),
    "pre": partial(FaceSwap, DIM, layers=2, norm="pre", **SMALL),
    "self": partial(FaceSwap, DIM, layers=2, self_attention=True, **SMALL),
    "self_post": partial(FaceSwap, DIM, layers=2, norm="post", self_attention=True, **SMALL),
    "unet": partial(FaceSwapUNet, DIM, multipliers=(1, 2), blocks=1, **SMALL),
    "dit": partial(FaceSwapDiT, DIM, layers=2, source_layers=1, **SMALL),
}


@pytest.fixture(params=BACKBONES)
def build(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    return BACKBONES[request.param]


def awake(network: nn.Module) -> nn.Module:
    """Weights that begin at zero would hide what a test looks for."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return network.eval()


def test_residual_begins_at_no_swap_and_the_published_form_does_not(build) -> None:
    target, source = torch.randn(2, 2, DIM, 4, 4)
    torch.testing.assert_close(build(residual=True)(target, source), target)
    assert (build(residual=False)(target, source) - target).abs().mean() > 0.1


def test_memory_of_one_source_serves_every_target(build) -> None:
    network = awake(build())
    targets, source = torch.randn(3, DIM, 4, 4), torch.randn(1, DIM, 4, 4)
    at_once = network.swap(targets, network.source_memory(source))
    one_by_one = torch.cat([network(target[None], source) for target in targets])
    torch.testing.assert_close(at_once, one_by_one, atol=1e-5, rtol=1e-4)


def test_source_and_target_both_matter_and_samples_do_not_mix(build) -> None:
    network = awake(build())
    target, source, other = torch.randn(3, 2, DIM, 4, 4)
    swapped = network(target, source)
    mixed = network(target, torch.stack([source[0], other[1]]))
    torch.testing.assert_close(mixed[0], swapped[0])
    assert (mixed[1] - swapped[1]).abs().mean() > 1e-4
    assert (network(other, source) - swapped).abs().mean() > 1e-2


@pytest.mark.parametrize("size", [(4, 4), (6, 6), (5, 3)])
def test_any_size_of_map(build, size: tuple[int, int]) -> None:
    network = awake(build())
    target, source = torch.randn(2, DIM, *size), torch.randn(2, DIM, 4, 4)
    assert network(target, source).shape == target.shape


def test_every_parameter_learns(build) -> None:
    network = awake(build())
    target, source, label = torch.randn(3, 2, DIM, 4, 4)
    (network(target, source) - label).square().mean().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_scale_of_the_latents_does_not_matter(build) -> None:
    """Latents that are 100 times smaller are swapped to latents that are 100 times smaller."""
    network = awake(build())
    target, source = torch.randn(2, 2, DIM, 4, 4)
    swapped = network(target, source)
    network.scale.mean.fill_(0.5)
    network.scale.deviation.fill_(0.01)
    torch.testing.assert_close(
        network(target * 0.01 + 0.5, source * 0.01 + 0.5), swapped * 0.01 + 0.5, atol=1e-4, rtol=1e-3
    )


def test_cross_attention_alone_lets_no_target_token_see_another() -> None:
    """As drawn: a token's result depends on itself and the source. With self-attention it does not."""
    target, source = torch.randn(2, 1, DIM, 4, 4)
    moved = target.clone()
    moved[..., 0, 0] += 1
    for own, reach in ((False, 1), (True, 16)):
        network = awake(FaceSwap(DIM, layers=2, self_attention=own, **SMALL))
        change = (network(moved, source) - network(target, source)).abs().amax(1)[0]
        assert int((change > 1e-6).sum()) == reach


def test_memory_of_the_transformer_is_a_pair_a_layer() -> None:
    network = FaceSwap(DIM, layers=3, **SMALL)
    memory = network.source_memory(torch.randn(2, DIM, 4, 4))
    assert [tuple(tensor.shape) for tensor in memory.tensors] == [(2, 2, 16, 8)] * 6


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="norm"):
        FaceSwap(DIM, norm="layer")
    with pytest.raises(ValueError, match="3 heads"):
        FaceSwap(DIM, width=16, heads=3)


@pytest.mark.parametrize("name", ["pre", "post", "unet", "dit"])
def test_learns_to_take_the_sources_colour(name: str) -> None:
    """A toy swap: the result has the target's pattern in one channel and the source's mean in another."""
    torch.manual_seed(0)
    network = BACKBONES[name]()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)

    def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        target, source = torch.randn(2, 32, DIM, 4, 4)
        colour = torch.randn(2, 32, 1, 1)
        target[:, 0], source[:, 0] = colour[0], colour[1]
        label = target.clone()
        label[:, 0] = colour[1]
        return target, source, label

    for _ in range(150):
        target, source, label = batch()
        loss = (network(target, source) - label).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    target, source, label = batch()
    with torch.no_grad():
        error = (network(target, source) - label).square().mean()
    assert error < 0.25 * (target - label).square().mean()
