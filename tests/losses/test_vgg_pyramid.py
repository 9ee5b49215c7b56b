"""PIRenderer's perceptual and style terms."""

from __future__ import annotations

import pytest
import recipe
import torch

from talkgen import weights
from talkgen.losses.perceptual import GradientPyramidLoss, _features
from talkgen.losses.vgg_pyramid import TAPS, VGGPyramidLoss, gram, renderer_perceptual


@pytest.fixture(scope="module")
def state():
    made = {}
    for key, value in _features("vgg").state_dict().items():
        made[f"features.{key}"] = torch.from_numpy(recipe.tensor(key, value.shape))
    for place, channels in enumerate((64, 128, 256, 512, 512)):
        made[f"heads.{place}.weight"] = torch.ones(1, channels, 1, 1)
    return made


def test_taps_are_the_first_activations_of_each_size():
    layers = list(_features("vgg"))
    sizes = [sum(isinstance(layer, torch.nn.MaxPool2d) for layer in layers[:tap]) for tap in TAPS]
    assert sizes == [0, 1, 2, 3, 4]
    assert all(isinstance(layers[tap], torch.nn.ReLU) for tap in TAPS)
    assert all(isinstance(layers[tap - 2], torch.nn.MaxPool2d) for tap in TAPS[1:])


def test_distances_are_those_of_the_formula(state):
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    one, two = VGGPyramidLoss(scales=1, state=state), VGGPyramidLoss(scales=4, state=state)
    assert one(x, x).tolist() == [0]
    by_hand = sum(
        (a - b).abs().mean((1, 2, 3)) for a, b in zip(one._activations(x), one._activations(y), strict=True)
    )
    torch.testing.assert_close(one(x, y), by_hand)
    half = [torch.nn.functional.avg_pool2d(z, 2) for z in (x, y)]
    torch.testing.assert_close(two(x, y), by_hand + one(*half))  # 8 pixels are too few for relu5_1
    styled = VGGPyramidLoss(style=250.0, state=state)(x, y)
    style = sum(
        (gram(a) - gram(b)).abs().mean((1, 2))
        for a, b in zip(one._activations(x), one._activations(y), strict=True)
    )
    torch.testing.assert_close(styled, two(x, y) + 250 * style)


def test_gram_by_hand():
    x = torch.tensor([[[[1.0, 2.0]], [[0.0, 3.0]]]])  # two channels of two pixels
    assert gram(x)[0].tolist() == [[5 / 4, 6 / 4], [6 / 4, 9 / 4]]


def test_gradients_reach_the_generated_picture_only(state):
    loss = VGGPyramidLoss(state=state)
    x, y = (torch.rand(1, 3, 16, 16).requires_grad_() for _ in range(2))
    loss(x, y).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert y.grad is None
    assert all(not parameter.requires_grad for parameter in loss.parameters())


def test_without_weights_it_is_the_stand_in(monkeypatch, tmp_path):
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    assert not weights.available("lpips_vgg")
    assert isinstance(renderer_perceptual("vgg"), GradientPyramidLoss)
    assert isinstance(renderer_perceptual("gradient_pyramid"), GradientPyramidLoss)
    with pytest.raises(ValueError, match="alex"):
        renderer_perceptual("vgg19")
