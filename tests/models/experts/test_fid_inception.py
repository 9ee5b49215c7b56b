from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen import weights
from talkgen.errors import FileError
from talkgen.models.experts.fid_inception import FIDInception, load_fid_inception, network_input
from talkgen.models.experts.torchscript_import import read_torchscript

PICTURES = ("64", "96x80", "astro128")


@pytest.fixture(scope="module")
def network(reference: Path) -> FIDInception:
    keys = json.loads((reference / "fid_inception_keys.json").read_text())
    return load_fid_inception(recipe.state_dict(keys), fuse=False)


def relative(ours: torch.Tensor, published: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - published).max() / np.abs(published).max())


@pytest.mark.parametrize("picture", PICTURES)
def test_published_features_of_all_four_blocks(network: FIDInception, reference: Path, picture: str) -> None:
    numbers = np.load(reference / "fid_inception.npz")
    with torch.inference_mode():
        stages = network.stages(network_input(torch.from_numpy(numbers[f"in_{picture}"])))
    for channels, stage in zip((64, 192, 768, 2048), stages, strict=True):
        assert relative(stage.mean((2, 3)), numbers[f"out{channels}_{picture}"]) < 1e-5


@pytest.mark.parametrize("resize", ["clean-fid", "torch-fidelity"])
def test_other_programs_resize_differently(network: FIDInception, reference: Path, resize: str) -> None:
    numbers = np.load(reference / "fid_inception.npz")
    for picture in PICTURES:
        frames = torch.from_numpy(numbers[f"in_{picture}"])
        expected = numbers[f"{resize.replace('-', '')}2048_{picture}"]
        with torch.inference_mode():
            assert relative(network(network_input(frames, resize)), expected) < 1e-5  # type: ignore[arg-type]
            assert relative(network(network_input(frames, "pytorch-fid")), expected) > 1e-4


def test_fusing_changes_no_feature(reference: Path) -> None:
    keys = json.loads((reference / "fid_inception_keys.json").read_text())
    fused = load_fid_inception(recipe.state_dict(keys))
    assert not any("bn.weight" in key for key in fused.state_dict())
    numbers = np.load(reference / "fid_inception.npz")
    with torch.inference_mode():
        features = fused(network_input(torch.from_numpy(numbers["in_64"])))
    assert relative(features, numbers["out2048_64"]) < 1e-5


def test_registry_file() -> None:
    if not weights.available("fid_inception"):
        pytest.skip("fid_inception is absent: talkgen weights get fid_inception")
    state = load_fid_inception("fid_inception", fuse=False).state_dict()
    assert len(state) == 564 and state["Mixed_7c.branch_pool.conv.weight"].shape == (192, 2048, 1, 1)
    assert 0.2 < float(state["Conv2d_1a_3x3.conv.weight"].std()) < 0.5


def test_torchscript_of_anything_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hostile.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"x": Path("y")}))
    with pytest.raises(FileError, match="it names pathlib"):
        read_torchscript(file)
    file.write_bytes(b"no archive")
    with pytest.raises(FileError, match="not a TorchScript file"):
        read_torchscript(file)
