"""CosFace's recogniser against the published network's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen.errors import FileError
from talkgen.models.experts.sphere20 import load_sphere20


def test_published_layout_and_numbers(reference: Path) -> None:
    keys = json.loads((reference / "sphere20_keys.json").read_text())
    network = load_sphere20(recipe.state_dict(keys, gain=0.4))  # strict
    images = torch.from_numpy(np.load(reference / "iresnet.npz")["images"]).float() / 127.5 - 1
    with torch.no_grad():
        got = network(images).numpy()
    expected = np.load(reference / "sphere20.npz")["out"]
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    assert not network.training


def test_another_network_is_refused() -> None:
    with pytest.raises(FileError, match="layer1"):
        load_sphere20({"conv.weight": torch.zeros(3)})
