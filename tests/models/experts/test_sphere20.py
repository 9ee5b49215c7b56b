"""CosFace's recogniser against the published network's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen import weights
from talkgen.errors import FileError, MissingWeights
from talkgen.metrics.identity_source import IdentitySource, open_identity_source
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


def test_it_is_one_of_the_recognisers(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    lacking = open_identity_source("cosface_sphere20")
    assert isinstance(lacking, MissingWeights) and "cosface_sphere20" in str(lacking)
    keys = json.loads((reference / "sphere20_keys.json").read_text())
    torch.save(recipe.state_dict(keys, gain=0.4), tmp_path / weights.REGISTRY["cosface_sphere20"].file)
    source = open_identity_source("cosface_sphere20")
    assert isinstance(source, IdentitySource)
    faces = torch.from_numpy(np.load(reference / "iresnet.npz")["images"]).permute(0, 2, 3, 1).contiguous()
    aligned = np.tile(np.eye(2, 3, dtype=np.float32), (2, 1, 1))  # as they are
    expected = torch.from_numpy(np.load(reference / "sphere20.npz")["out"])
    cosines = torch.nn.functional.cosine_similarity(source(faces, aligned), expected)
    assert cosines.min() > 0.9999


def test_another_network_is_refused() -> None:
    with pytest.raises(FileError, match="layer1"):
        load_sphere20({"conv.weight": torch.zeros(3)})
