"""Identity directions of frames, and of the clips of a cache."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.errors import MissingWeights
from talkgen.inference.identity import load_frame_identities
from talkgen.models.experts.iresnet import IResNet


@pytest.fixture
def recogniser(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(IResNet(18, dim=16, width=4).state_dict(), tmp_path / "recogniser.pt")
    return tmp_path / "recogniser.pt"


def test_directions_are_of_the_face_that_the_warp_cuts_out(recogniser: Path) -> None:
    identify = load_frame_identities(str(recogniser), device="cpu")
    rng = np.random.default_rng(0)
    face = rng.integers(0, 255, (112, 112, 3), np.uint8)
    frames = np.zeros((2, 160, 160, 3), np.uint8)
    frames[0, 20:132, 30:142] = frames[1, 5:117, 40:152] = face
    warp = np.array([[[1, 0, -30], [0, 1, -20]], [[1, 0, -40], [0, 1, -5]]], np.float32)
    directions = identify(frames, warp)
    assert directions.shape == (2, 16) and directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-4)
    assert not np.allclose(directions[0], identify(frames, warp[::-1].copy())[0], atol=1e-2)


def test_they_are_known_by_their_file_and_travel_light(recogniser: Path) -> None:
    identify = load_frame_identities(str(recogniser), device="cpu")
    assert len(pickle.dumps(identify)) < 1000
    assert dataclasses.replace(identify) == identify and len(identify.sha256) == 64


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match="talkgen weights get arcface_mbf"):
        load_frame_identities()
