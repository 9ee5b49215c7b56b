"""Whisper features: the input against transformers' own, and the published weights where they are at hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from talkgen import weights
from talkgen.audio.waveform import load_waveform
from talkgen.audio.whisper import WhisperFeatures, log_mel_spectrogram
from talkgen.errors import FileError, MissingWeights

OPENAI = {
    "self_attn_layer_norm": "attn_ln",
    "final_layer_norm": "mlp_ln",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "layers": "blocks",
    "embed_positions.weight": "positional_embedding",
}


@pytest.fixture(scope="module")
def whisper() -> WhisperFeatures:
    """The published tiny.en."""
    if not weights.available("whisper_tiny_en"):
        pytest.skip("whisper_tiny_en is not on this machine")
    return WhisperFeatures()


@pytest.fixture
def tiny(tmp_path):
    """A random encoder of two layers saved in OpenAI's layout, and itself."""
    torch.manual_seed(0)
    encoder = WhisperEncoder(
        WhisperConfig(
            d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=80
        )
    ).eval()
    tensors = {}
    for name, tensor in encoder.state_dict().items():
        for ours, theirs in OPENAI.items():
            name = name.replace(ours, theirs)
        tensors["encoder." + (name.replace("layer_norm.", "ln_post.", 1))] = tensor
    sizes = {"n_audio_state": 16, "n_audio_layer": 2, "n_audio_head": 2, "n_mels": 80, "n_audio_ctx": 1500}
    torch.save({"dims": sizes, "model_state_dict": tensors}, tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt", encoder


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)


def test_the_input_is_transformers_own():
    waveform = noise(3.3)
    expected = WhisperFeatureExtractor()(waveform, sampling_rate=16000, return_tensors="np").input_features[0]
    np.testing.assert_allclose(log_mel_spectrogram(waveform, 3000), expected, atol=1e-4)


def test_an_openai_file_gives_what_the_encoder_gives(tiny):
    file, encoder = tiny
    waveform = noise(2.0)
    features = WhisperFeatures(file)(waveform)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(log_mel_spectrogram(waveform, 3000)[None])).last_hidden_state[
            0, :100
        ]
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("samples", [0, 100, 160, 16000, 16159, 16160, 480000, 480200])
def test_steps_are_seconds_times_fifty_rounded(tiny, samples):
    features = WhisperFeatures(tiny[0])(np.zeros(samples, np.float32))
    assert features.shape == ((samples + 160) // 320, 16)
    assert features.dtype == np.float32 and np.isfinite(features).all()


def test_files_that_are_no_checkpoints_are_named(tmp_path, tiny, monkeypatch):
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"dims": {}}, tmp_path / "other.pt")
    content = torch.load(tiny[0], weights_only=True)
    del content["model_state_dict"]["encoder.conv1.bias"]
    torch.save(content, tmp_path / "part.pt")
    for name, cause in [
        ("text.pt", "not a Whisper"),
        ("other.pt", "not a Whisper"),
        ("part.pt", "conv1.bias"),
    ]:
        with pytest.raises(FileError, match=cause):
            WhisperFeatures(tmp_path / name)
    with pytest.raises(FileError, match="no such file"):
        WhisperFeatures(tmp_path / "none.pt")
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path / "empty"))
    with pytest.raises(MissingWeights, match="talkgen weights get whisper_tiny_en"):
        WhisperFeatures()


def test_speech_and_silence_differ(whisper, shared):
    speech = load_waveform(shared / "realclips" / "clips" / "may.mp4", seconds=3)
    features = whisper(np.concatenate([speech, np.zeros(2 * 16000, np.float32)]))
    assert features.shape == (250, 384)
    change = np.linalg.norm(np.diff(features, axis=0), axis=1)
    assert change[10:140].mean() > 2 * change[170:240].mean()  # speech moves, silence hardly does
    centre_speech, centre_silence = features[10:140].mean(axis=0), features[170:240].mean(axis=0)
    spread = np.linalg.norm(features[170:240] - centre_silence, axis=1).mean()
    assert np.linalg.norm(centre_speech - centre_silence) > 2 * spread


@pytest.mark.parametrize("second", [0.7, 1.5, 2.5, 3.2])
def test_a_step_is_about_its_own_time(whisper, shared, second):
    """Where a tenth of a second is silenced, there the features change most."""
    speech = load_waveform(shared / "realclips" / "clips" / "may.mp4", seconds=4)
    muted = speech.copy()
    muted[round((second - 0.05) * 16000) : round((second + 0.05) * 16000)] = 0
    change = np.linalg.norm(whisper(muted) - whisper(speech), axis=1)
    assert abs(int(change.argmax()) - second * 50) <= 4
    assert change.max() > 8 * np.median(change)


def test_no_glitch_where_windows_of_long_audio_meet(whisper, shared):
    """The level of the features, averaged over a second, does not jump at the seams as it does at a hard
    cut."""
    clips = sorted((shared / "realclips" / "clips").glob("*.mp4"))
    waveform = np.concatenate([load_waveform(file) for file in clips])[: 65 * 16000]
    assert waveform.size == 65 * 16000

    def jump(features, step):
        return np.linalg.norm(
            features[step : step + 50].mean(axis=0) - features[step - 50 : step].mean(axis=0)
        )

    features = whisper(waveform)
    assert features.shape == (3250, 384)
    seams = (1250, 2125)  # windows are 0–30, 20–50 and 35–65 s; they meet in the middle of what they share
    elsewhere = [s for s in range(50, 3200, 25) if min(abs(s - seam) for seam in seams) > 100]
    usual = max(jump(features, step) for step in elsewhere)
    assert (
        max(jump(features, step) for seam in seams for step in range(seam - 50, seam + 51, 10)) < 1.15 * usual
    )

    log_mel = torch.from_numpy(log_mel_spectrogram(waveform, 6000)[None])
    with torch.inference_mode():
        halves = [whisper.encoder(log_mel[..., a : a + 3000]).last_hidden_state[0].numpy() for a in (0, 3000)]
    assert jump(np.concatenate(halves), 1500) > 1.3 * usual

    alone = whisper(waveform[: 30 * 16000])
    similarity = (features[:1200] * alone[:1200]).sum(axis=1)
    similarity /= np.linalg.norm(features[:1200], axis=1) * np.linalg.norm(alone[:1200], axis=1)
    assert np.percentile(similarity, 1) > 0.99  # before the first seam it is the first window
