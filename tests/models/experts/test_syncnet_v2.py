from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen.errors import MissingWeights
from talkgen.models.experts.syncnet_v2 import SyncNetV2, embed_sound, embed_video, load_syncnet_v2


@pytest.fixture(scope="module")
def network(reference: Path) -> SyncNetV2:
    return load_syncnet_v2(recipe.state_dict(json.loads((reference / "syncnet_v2_keys.json").read_text())))


def test_published_vectors(network: SyncNetV2, reference: Path) -> None:
    numbers = np.load(reference / "syncnet_v2.npz")
    faces = torch.from_numpy(recipe.uint8_noise((2, 3, 5, 224, 224), 101)).float()
    with torch.inference_mode():
        ours = {
            "aud_out": network.embed_audio(torch.from_numpy(numbers["aud_in"])),
            "lipfeat_out": network.lip_features(faces),
            "lip_out": network.embed_lip(faces),
        }
    for name, vectors in ours.items():
        np.testing.assert_allclose(vectors, numbers[name], atol=1e-5 * np.abs(numbers[name]).max())


def test_a_video_is_its_windows_in_bgr(network: SyncNetV2) -> None:
    frames = torch.from_numpy(recipe.uint8_noise((8, 224, 224, 3), 5))
    with torch.inference_mode():
        windows = torch.stack([frames[t : t + 5].flip(-1).permute(3, 0, 1, 2).float() for t in range(4)])
        expected = network.embed_lip(windows)
    torch.testing.assert_close(embed_video(network, frames, batch=3), expected, rtol=1e-4, atol=1e-2)
    assert embed_video(network, frames[:4]).shape == (0, 1024)


def test_sound_windows_lie_four_steps_apart(network: SyncNetV2) -> None:
    mfcc = torch.randn(36, 13, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        third = network.embed_audio(mfcc[8:28].T[None, None])[0]
    torch.testing.assert_close(embed_sound(network, mfcc, 5)[2], third, rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match="talkgen weights get syncnet_v2"):
        load_syncnet_v2()
