from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch

from talkgen.checkpoints import load_published
from talkgen.models.experts.syncnet import SyncNet, syncnet_input


def test_published_layout_and_numbers(reference: Path) -> None:
    keys = json.loads((reference / "wav2lip_syncnet_keys.json").read_text())
    numbers = np.load(reference / "wav2lip_syncnet.npz")
    weights = {f"module.{key}": value for key, value in recipe.state_dict(keys, gain=0.8).items()}
    net = SyncNet().eval()
    report = load_published(net, {"state_dict": weights, "global_step": 1}, layout="wav2lip")
    assert report.loaded == 217
    with torch.no_grad():
        audio, face = net(torch.from_numpy(numbers["mel"]), torch.from_numpy(numbers["face"]))
    np.testing.assert_allclose(
        audio, numbers["audio_embedding"], atol=1e-4 * numbers["audio_embedding"].max()
    )
    np.testing.assert_allclose(face, numbers["face_embedding"], atol=1e-4 * numbers["face_embedding"].max())


@pytest.mark.parametrize("final_relu", [True, False])
def test_narrow_network_gives_unit_vectors(final_relu: bool) -> None:
    torch.manual_seed(0)
    net = SyncNet(width=0.125, final_relu=final_relu).eval()
    audio, face = net(torch.randn(3, 1, 80, 16), torch.rand(3, 15, 48, 96))
    assert audio.shape == face.shape == (3, net.dim) == (3, 64)
    torch.testing.assert_close(audio.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(face.norm(dim=1), torch.ones(3))
    negative = bool((audio < 0).any() and (face < 0).any())
    assert negative != final_relu
    assert set(net.state_dict()) == set(SyncNet().state_dict())


def test_input_is_lower_half_bgr_frame_by_frame() -> None:
    video = torch.full((1, 5, 3, 96, 96), -1.0)
    for frame in range(5):
        for channel in range(3):  # R, G, B
            video[0, frame, channel, 48:] = (frame * 3 + channel) / 10 - 1
    video[:, :, :, :48] = 1.0  # the upper half must not be seen
    got = syncnet_input(video)
    assert got.shape == (1, 15, 48, 96)
    expected = torch.tensor([(f * 3 + c) / 20 for f in range(5) for c in (2, 1, 0)])
    torch.testing.assert_close(got[0, :, 10, 10], expected)
    torch.testing.assert_close(got.amax(dim=(2, 3)), got.amin(dim=(2, 3)))
    rgb = syncnet_input(video, channel_order="rgb")
    torch.testing.assert_close(rgb[0, :3, 0, 0], torch.tensor([0.0, 0.05, 0.1]))
    with pytest.raises(ValueError, match="channel_order"):
        syncnet_input(video, channel_order="grb")


def test_input_resizes_and_passes_gradients() -> None:
    video = torch.rand(2, 5, 3, 128, 128, requires_grad=True)
    got = syncnet_input(video * 2 - 1)
    assert got.shape == (2, 15, 48, 96)
    assert got.min() >= 0 and got.max() <= 1
    got.sum().backward()
    assert video.grad is not None
    assert (video.grad[..., 70:, :] != 0).all()
    assert (video.grad[..., :60, :] == 0).all()
