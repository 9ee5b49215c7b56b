from __future__ import annotations

import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import recipe
import torch
from script_module import load_script

from talkgen.models.experts.syncnet import SyncNet


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("scripts/check_parity.py")


def test_recipe_gives_the_same_bits_everywhere() -> None:
    values = recipe.tensor("encoder.0.weight", (4, 3, 2, 2), seed=5, gain=0.8)
    assert (values.dtype, values.shape) == (np.float32, (4, 3, 2, 2))
    assert zlib.crc32(values.tobytes()) == 0x1501E666
    assert recipe.tensor("bn.num_batches_tracked", ()).dtype == np.int64
    assert (recipe.tensor("bn.running_var", (50,)) >= 1).all()


def test_vectors_of_the_right_seed_pass(
    script: ModuleType, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = str(reference / "wav2lip_syncnet.npz")
    assert script.main(["wav2lip_syncnet", vectors]) == 0
    assert capsys.readouterr().out.count(" ok") == 2
    assert script.main(["wav2lip_syncnet", vectors, "--seed", "1"]) == 1
    assert "PAST TOLERANCE" in capsys.readouterr().out


def test_vectors_of_another_seed_pass_with_that_seed(
    script: ModuleType, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the published network had been run with weights of seed 7."""
    arrays = dict(np.load(reference / "wav2lip_syncnet.npz"))
    network = recipe.fill(SyncNet(), seed=7, gain=0.8)
    with torch.inference_mode():
        audio, face = network(torch.from_numpy(arrays["mel"]), torch.from_numpy(arrays["face"]))
    arrays |= {"audio_embedding": audio.numpy(), "face_embedding": face.numpy()}
    np.savez(tmp_path / "seed7.npz", **arrays)
    assert script.main(["wav2lip_syncnet", str(tmp_path / "seed7.npz"), "--seed", "7"]) == 0
    assert script.main(["wav2lip_syncnet", str(tmp_path / "seed7.npz")]) == 1
    assert capsys.readouterr().out.count("PAST TOLERANCE") == 2


def test_a_small_change_fails(script: ModuleType, reference: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(reference / "wav2lip_syncnet.npz"))
    arrays["audio_embedding"][1, 7] += 2e-4 * np.abs(arrays["audio_embedding"]).max()
    np.savez(tmp_path / "changed.npz", **arrays)
    assert script.main(["wav2lip_syncnet", str(tmp_path / "changed.npz")]) == 1


def test_unusable_files_are_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert script.main(["wav2lip_syncnet", str(tmp_path / "other.npz")]) == 1
    assert script.main(["wav2lip_syncnet", str(tmp_path / "absent.npz")]) == 1
    assert capsys.readouterr().err.count("wav2lip_syncnet: ") == 2


def test_nan_and_other_shapes_are_past_every_tolerance(script: ModuleType) -> None:
    assert not script.compare("x", np.array([np.nan]), np.array([1.0]), 1.0).passed
    assert not script.compare("x", np.zeros((2, 1)), np.zeros(2), 1.0).passed
    assert script.compare("x", np.array([1.0, 2.2]), np.array([1.0, 2.0]), 0.11).error == pytest.approx(0.1)
