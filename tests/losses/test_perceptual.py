from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from torch import Tensor

from talkgen import weights
from talkgen.errors import FileError, MissingWeights
from talkgen.losses.perceptual import LPIPS, GradientPyramidLoss, perceptual_loss, read_lpips_file

TORCHVISION = {"alex": "alexnet", "vgg": "vgg16"}
CHANNELS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def image(numbers: dict[str, np.ndarray], name: str) -> Tensor:
    return torch.from_numpy(numbers[name]).permute(2, 0, 1)[None].float() / 127.5 - 1


def random_state(net: str) -> dict[str, Tensor]:
    """Weights without a file: torchvision's keys filled by the recipe, heads of ones."""
    torchvision = pytest.importorskip("torchvision")
    backbone = getattr(torchvision.models, TORCHVISION[net])(weights=None).features
    state = {
        f"features.{key}": torch.from_numpy(recipe.tensor(f"{TORCHVISION[net]}.features.{key}", value.shape))
        for key, value in backbone.state_dict().items()
    }
    return state | {f"heads.{i}.weight": torch.ones(1, n, 1, 1) for i, n in enumerate(CHANNELS[net])}


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_published_numbers(reference: Path, net: str) -> None:
    """Backbone by the recipe, heads of version 0.1 from the registry's file."""
    if not weights.available(f"lpips_{net}"):
        pytest.skip(f"lpips_{net} is absent: talkgen weights get lpips_{net}")
    heads = {k: v for k, v in read_lpips_file(weights.find(f"lpips_{net}")).items() if k.startswith("heads")}
    network = LPIPS(net, random_state(net) | heads)  # type: ignore[arg-type]
    numbers = np.load(reference / "ssim_psnr_96.npz")
    with torch.no_grad():
        got = network.layer_distances(image(numbers, "ref_96"), image(numbers, "noise8_96"))[0].numpy()
    total, *layers = np.load(reference / "lpips.npz")[net]
    np.testing.assert_allclose(got, layers, rtol=1e-4)
    assert got.sum() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_real_weights_order_damage_as_people_do(reference: Path, net: str) -> None:
    if not weights.available(f"lpips_{net}"):
        pytest.skip(f"lpips_{net} is absent: talkgen weights get lpips_{net}")
    numbers = np.load(reference / "ssim_psnr_96.npz")
    network = LPIPS(net)  # type: ignore[arg-type]
    truth = image(numbers, "ref_96")
    with torch.no_grad():
        same, shifted, blurred = (
            network(image(numbers, name), truth).item() for name in ("ref_96", "shift1px_96", "blur1.5_96")
        )
    assert same == 0
    assert 0 < shifted < blurred < 1  # PSNR has it the other way round


def test_batches_are_pairs_and_the_distance_is_symmetric() -> None:
    network = LPIPS("alex", random_state("alex"))
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        both = network(a, b)
        torch.testing.assert_close(both, torch.cat([network(a[:1], b[:1]), network(a[1:], b[1:])]))
        torch.testing.assert_close(both, network(b, a))


def test_gradients_are_finite_on_flat_pictures_and_no_weight_has_one() -> None:
    network = LPIPS("alex", random_state("alex")).train()
    generated = torch.full((1, 3, 64, 64), -1.0, requires_grad=True)
    truth = torch.full((1, 3, 64, 64), -1.0)
    truth[..., 20:40, 20:40] = 1
    network(generated, truth).sum().backward()
    assert generated.grad is not None and torch.isfinite(generated.grad).all()
    assert generated.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())


def test_dead_units_give_no_nan() -> None:
    """All activations of a layer are 0 where its biases are very negative."""
    state = random_state("alex")
    state["features.3.bias"] -= 1e6
    network = LPIPS("alex", state)
    generated = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(generated, torch.rand(1, 3, 64, 64)).sum().backward()
    assert generated.grad is not None and torch.isfinite(generated.grad).all()


def test_a_pickle_that_holds_anything_but_arrays_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hostile.ckpt"
    file.write_bytes(pickle.dumps({"AlexNet_0": Path("x")}))
    with pytest.raises(FileError, match="it names pathlib"):
        read_lpips_file(file)
    file.write_bytes(pickle.dumps({"AlexNet_0": {"Conv_0": {"kernel": np.zeros((1, 1, 1, 1))}}}))
    with pytest.raises(FileError, match="not one of the LPIPS files"):
        read_lpips_file(file)


def test_absent_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match="talkgen weights get lpips_vgg"):
        LPIPS("vgg")
    with caplog.at_level(logging.WARNING):
        assert isinstance(perceptual_loss("vgg"), GradientPyramidLoss)
        assert len(caplog.records) == 1 and "GradientPyramidLoss" in caplog.text
        assert isinstance(perceptual_loss("gradient_pyramid"), GradientPyramidLoss)
    assert len(caplog.records) == 1  # what was asked for needs no warning


def test_weights_of_the_perceptual_loss_stay_out_of_checkpoints() -> None:
    if not weights.available("lpips_alex"):
        pytest.skip("lpips_alex is absent: talkgen weights get lpips_alex")
    loss = perceptual_loss("alex")
    assert not loss.state_dict() and loss(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)).shape == (2,)


def test_gradient_pyramid_by_hand() -> None:
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1.0  # one vertical edge
    flat = torch.zeros(1, 1, 4, 4)
    # level 0: 4 of 12 horizontal differences are 1; level 1: 2 of 2; a 1 x 1 picture has none
    assert GradientPyramidLoss(4)(step, flat).item() == pytest.approx((4 / 12 + 2 / 2) / 2)
    assert GradientPyramidLoss(1)(step, flat).item() == pytest.approx(4 / 12)
    assert GradientPyramidLoss()(step + 0.3, step).item() == pytest.approx(0, abs=1e-6)  # edges only


def test_gradient_pyramid_sees_what_l1_hardly_does() -> None:
    grid = torch.arange(64) // 8 % 2 * 2.0 - 1
    sharp = (grid[:, None] * grid[None]).expand(2, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    darker = sharp - (sharp - blurred).abs().mean()  # the same L1
    loss = GradientPyramidLoss()
    assert loss(blurred, sharp).shape == (2,)
    assert (loss(blurred, sharp) > 5 * loss(darker, sharp)).all()
