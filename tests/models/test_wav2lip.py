"""Wav2Lip's generator against the published network's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import recipe
import torch

from talkgen.models.published import load_published
from talkgen.models.wav2lip import Wav2Lip


def test_published_layout_and_numbers(reference: Path) -> None:
    keys = json.loads((reference / "wav2lip_generator_keys.json").read_text())
    weights = recipe.state_dict(keys, gain=0.8)
    file = {"state_dict": {f"module.{key}": value for key, value in weights.items()}}
    network = load_published("wav2lip", file)
    assert isinstance(network, Wav2Lip)
    numbers = np.load(reference / "wav2lip_generator.npz")
    with torch.inference_mode():
        made = network(torch.from_numpy(numbers["mel"][:1]), torch.from_numpy(numbers["faces"])).numpy()
    np.testing.assert_allclose(made, numbers["out"], atol=1e-4 * np.abs(numbers["out"]).max())
