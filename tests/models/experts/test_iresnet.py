from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen.errors import FileError
from talkgen.models.experts.arcface import load_arcface
from talkgen.models.experts.iresnet import IResNet, load_iresnet


@pytest.mark.parametrize("depth", [18, 50])
def test_published_layout_and_numbers(reference: Path, tmp_path: Path, depth: int) -> None:
    keys = json.loads((reference / "iresnet_keys.json").read_text())[f"iresnet{depth}"]
    numbers = np.load(reference / "iresnet.npz")
    file = tmp_path / "backbone.pth"
    torch.save({f"module.{key}": value for key, value in recipe.state_dict(keys, gain=0.4).items()}, file)
    network = load_arcface(file)  # strict, and the depth is read off the keys
    images = torch.from_numpy(numbers["images"]).float() / 127.5 - 1
    with torch.no_grad():
        got = network(images).numpy()
    expected = numbers[f"iresnet{depth}"]
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_a_narrow_network_trains_and_keeps_the_scale_of_its_embedding() -> None:
    network = IResNet(18, dim=8, width=4)
    out = network(torch.rand(2, 3, 112, 112))
    assert out.shape == (2, 8)
    out.square().sum().backward()
    assert network.features.weight.grad is None
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(("depth", "parameters"), [(34, 34_139_328), (100, 65_156_160)])
def test_deeper_ones_have_as_many_parameters_as_published(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in IResNet(depth).parameters()) == parameters


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(FileError, match=r"blocks per stage: \(1, 0, 0, 0\)"):
        load_iresnet(tmp_path / "x.pth")
