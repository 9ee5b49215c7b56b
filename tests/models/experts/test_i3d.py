from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
from torch.nn import functional as F

from talkgen import weights
from talkgen.errors import FileError
from talkgen.models.experts.array_pickle import read_arrays
from talkgen.models.experts.i3d import I3D, _pad_same, load_i3d, network_input


def moving_waves() -> np.ndarray:
    y, x = np.mgrid[0:224, 0:224]
    frames = [
        np.stack([127.5 + 120 * np.sin(x / 17 + f / 3 + c) * np.cos(y / 23 - f / 5) for c in range(3)], -1)
        for f in range(16)
    ]
    return np.stack(frames).round().astype(np.uint8)


def test_published_logits_with_the_real_weights(reference: Path) -> None:
    if not weights.available("fvd_i3d"):
        pytest.skip("fvd_i3d is absent: talkgen weights get fvd_i3d")
    network, numbers = load_i3d(), np.load(reference / "i3d.npz")
    clips = {"noise": recipe.uint8_noise((16, 224, 224, 3), 401), "waves": moving_waves()}
    for name, frames in clips.items():
        with torch.inference_mode():
            logits = network(network_input(torch.from_numpy(frames))[None])[0].numpy()
        np.testing.assert_allclose(logits, numbers[name], atol=1e-4 * np.abs(numbers[name]).max())


def test_same_padding_puts_the_odd_one_at_the_end() -> None:
    x = torch.ones(1, 1, 4, 5, 6)
    padded = _pad_same(x, (3, 3, 3), (2, 2, 2))  # lengths 2, 3, 3: totals 1, 2, 1
    assert padded.shape == (1, 1, 5, 7, 7)
    assert padded[0, 0, :, 1, 0].tolist() == [1, 1, 1, 1, 0]
    assert padded[0, 0, 0, :, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_input_is_resized_scaled_and_channel_first() -> None:
    frames = torch.randint(0, 256, (16, 30, 40, 3), generator=torch.Generator().manual_seed(0)).byte()
    x = network_input(frames)
    assert x.shape == (3, 16, 224, 224)
    picture = frames[4].permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(x[:, 4], F.interpolate(picture, (224, 224), mode="bilinear")[0])


def test_shapes_without_weights() -> None:
    with torch.inference_mode():
        assert I3D().eval()(torch.zeros(1, 3, 16, 224, 224)).shape == (1, 400)


def test_files_of_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.ckpt").write_bytes(b"\x80\x04]\x94.")
    with pytest.raises(FileError, match="holds a list"):
        read_arrays(tmp_path / "list.ckpt")
    (tmp_path / "empty.ckpt").write_bytes(b"\x80\x04}\x94.")
    with pytest.raises(FileError, match="does not hold the I3D"):
        load_i3d(tmp_path / "empty.ckpt")
