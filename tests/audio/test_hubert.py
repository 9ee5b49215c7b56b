"""HuBERT features with a small random model: number of steps, time of a step, windows."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from talkgen.audio.hubert import HubertFeatures
from talkgen.errors import FileError, MissingWeights


def save_model(folder, layers=2, **settings):
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embedding_groups=2,
        **{
            "num_conv_pos_embeddings": 16,
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            **settings,
        },
    )
    HubertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("hubert"))


def speech_like(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * 16000)) / 16000
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
    return (loudness * rng.normal(0, 0.1, time.size)).astype(np.float32)


@pytest.mark.parametrize("samples", [0, 100, 160, 320, 400, 16000, 16159, 16160, 15999, 48123])
def test_steps_are_seconds_times_fifty_rounded(folder, samples):
    features = HubertFeatures(folder)(speech_like(4)[:samples])
    assert features.shape == ((samples + 160) // 320, 16)
    assert features.dtype == np.float32 and np.isfinite(features).all()


def test_a_step_stands_on_its_own_twenty_milliseconds(tmp_path):
    """Without attention a click changes the steps whose 400 samples hold it, centred on (j + ½)/50 s."""
    features = HubertFeatures(save_model(tmp_path, layers=0, num_conv_pos_embeddings=1))
    features.normalise = False
    quiet = speech_like(2.0)
    for step in (20, 57):
        loud = quiet.copy()
        loud[320 * step + 160] += 5.0  # the centre of the step
        change = np.abs(features(loud) - features(quiet)).max(axis=1)
        assert set(np.flatnonzero(change > 1e-6)) == {step}


def test_windows_give_the_whole_where_the_model_is_local(tmp_path):
    model = save_model(tmp_path, layers=0)
    waveform = speech_like(10.0)
    whole = HubertFeatures(model)(waveform)
    windowed = HubertFeatures(model, window_seconds=3.0, overlap_seconds=1.0)(waveform)
    np.testing.assert_allclose(windowed, whole, atol=1e-5)


def test_windows_are_close_to_the_whole_with_attention(folder):
    waveform = speech_like(20.0)
    whole = HubertFeatures(folder)(waveform)
    windowed = HubertFeatures(folder, window_seconds=8.0, overlap_seconds=2.0)(waveform)
    assert windowed.shape == whole.shape == (1000, 16)
    error = np.linalg.norm(windowed - whole, axis=1) / np.linalg.norm(whole - whole.mean(axis=0), axis=1)
    assert np.median(error) < 0.1
    shifted = np.linalg.norm(windowed[1:] - whole[:-1], axis=1)
    assert np.median(shifted) > 5 * np.median(np.linalg.norm(windowed - whole, axis=1))


def test_the_end_does_not_flicker(folder):
    """The last steps of a steady sound look like those before them."""
    hum = (0.3 * np.sin(2 * np.pi * 100 * np.arange(16000 * 2 + 150) / 16000)).astype(np.float32)
    features = HubertFeatures(folder)(hum)
    change = np.linalg.norm(np.diff(features, axis=0), axis=1)
    scale = np.linalg.norm(features, axis=1).mean()
    assert change[-4:].max() < 0.2 * scale


def test_loudness_does_not_matter_unless_the_model_says_so(folder, tmp_path):
    waveform = speech_like(1.0)
    model = HubertFeatures(folder)
    np.testing.assert_allclose(model(waveform), model(0.1 * waveform), atol=1e-3)
    plain = save_model(tmp_path)
    (plain / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False})
    )
    assert not HubertFeatures(plain).normalise


def test_nothing_is_downloaded_unless_asked(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("a network connection was opened")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(MissingWeights, match="hf download nobody/no-such-hubert"):
        HubertFeatures("nobody/no-such-hubert")


def test_folders_without_a_model_are_named(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no readable HuBERT"):
        HubertFeatures(tmp_path / "empty")
    with pytest.raises(FileError, match="320"):
        HubertFeatures(save_model(tmp_path / "fast", conv_stride=(5, 2, 2, 2, 2, 2, 1)))
    with pytest.raises(ValueError, match="overlap"):
        HubertFeatures(folder, window_seconds=1, overlap_seconds=2)


def test_a_model_with_missing_tensors_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    model = save_model(tmp_path)
    tensors = load_file(model / "model.safetensors")
    del tensors["encoder.layers.0.attention.q_proj.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileError, match=r"not complete.*q_proj"):
        HubertFeatures(model)
