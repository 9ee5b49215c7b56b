"""One call for every published layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import recipe
import torch

from talkgen.errors import FileError, TalkgenError
from talkgen.models.published import KINDS, load_published
from talkgen.models.vqgan.vqgan import VQGAN


def state(reference: Path, name: str) -> dict[str, torch.Tensor]:
    return recipe.state_dict(json.loads((reference / f"{name}_keys.json").read_text()))


@pytest.mark.parametrize(
    ("kind", "keys", "wrap"),
    [
        ("syncnet_v2", "syncnet_v2", lambda weights: weights),
        (
            "wav2lip_syncnet",
            "wav2lip_syncnet",
            lambda weights: {"state_dict": {f"module.{key}": value for key, value in weights.items()}},
        ),
        ("pirender", "pirender", lambda weights: {"net_G_ema": weights}),
    ],
)
def test_published_keys_become_a_network(reference: Path, tmp_path: Path, kind: str, keys: str, wrap) -> None:  # type: ignore[no-untyped-def]
    weights = state(reference, keys)
    file = tmp_path / "published.pt"
    torch.save(wrap(weights), file)
    network = load_published(kind, file)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    own = network.state_dict()
    shared = [key for key in weights if key in own]
    assert len(shared) > 40
    assert all(torch.equal(own[key], weights[key].to(own[key].dtype)) for key in shared)


def test_a_vqgan_of_any_size_is_read_off_its_file() -> None:
    from talkgen.models.vqgan.vqgan import build_vqgan

    small = build_vqgan(
        32, [1, 2], 1, [0, 1], 16, 24, 8, halves=False, codebooks=1, mode="gradient", kmeans_vectors=0
    )
    weights = {"state_dict": small.state_dict()}
    loaded = load_published("taming_vqgan", weights)
    assert isinstance(loaded, VQGAN)
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x).reconstruction, small.eval()(x).reconstruction)


def test_refusals(tmp_path: Path) -> None:
    assert set(KINDS) == {
        *("diff2lip", "wav2lip", "wav2lip_syncnet", "taming_vqgan", "syncnet_v2", "pirender"),
        "cosface_sphere20",
    }
    with pytest.raises(TalkgenError, match=r"published networks are diff2lip, .* not 'sora'"):
        load_published("sora", tmp_path)
    with pytest.raises(FileError, match="no such checkpoint"):
        load_published("diff2lip", tmp_path / "x.pt")
    other = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(3)}, other)
    with pytest.raises(FileError, match="is no VQGAN of taming-transformers"):
        load_published("taming_vqgan", other)
    with pytest.raises(FileError, match="does not fit SyncNet"):
        load_published("wav2lip_syncnet", other)
