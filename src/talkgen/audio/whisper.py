"""Features of OpenAI's Whisper encoder (Radford et al., 2022), 50 a second: what LatentSync and MuseTalk
listen with."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from talkgen import weights
from talkgen.audio.alignment import feature_steps
from talkgen.audio.chunks import join, overlapping_windows
from talkgen.audio.mel import mel_filterbank
from talkgen.audio.waveform import require_mono
from talkgen.errors import FileError

_N_FFT, _HOP = 400, 160
_WINDOW_STEPS = 1500  # 30 s: the encoder takes nothing else
_OVERLAP_STEPS = 500
_FADE_STEPS = 100

_UNREADABLE = (OSError, EOFError, ValueError, pickle.UnpicklingError)

# OpenAI's names → transformers' names, applied in this order.
_RENAMED = (
    (r"^positional_embedding$", "embed_positions.weight"),
    (r"^ln_post\.", "layer_norm."),
    (r"^blocks\.", "layers."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.attn\.out\.", ".self_attn.out_proj."),
    (r"\.attn\.(query|key|value)\.", lambda m: f".self_attn.{m[1][0]}_proj."),
)


class WhisperFeatures:
    """Whisper's encoder as a function from a waveform to features.

    The encoder knows 30 s windows only, and what it says of a moment depends on the place of that moment in
    the window (a handful of the 384 numbers are little else) and on all that follows. Therefore

    - audio up to 30 s is padded with silence to 30 s, as in training. A shorter input would be up to ten
      times faster but not the same: on 4 s of speech the features would be off by a quarter of their spread;
    - longer audio is read in windows of 30 s that overlap by at least 10 s and are faded into each other over
      2 s, so that no step jumps where a window ends. Around such a place the features are a mixture of two
      windows.

    Step j is centred on second j/50 (``talkgen.audio.alignment.WHISPER_FIRST_STEP_SECONDS``).

    Args:
        file: an OpenAI checkpoint (``tiny.en.pt`` and its larger kin); None takes ``whisper_tiny_en`` from
            the folder of weights.
        device: where the encoder runs.

    Raises:
        MissingWeights: no file was given and the default is not on this machine.
        FileError: the file is not such a checkpoint.
    """

    def __init__(self, file: str | Path | None = None, device: str | torch.device = "cpu") -> None:
        path = weights.find("whisper_tiny_en") if file is None else Path(file)
        encoder: Any = _load_encoder(path)
        self.encoder = encoder.to(device)
        self.device = torch.device(device)

    @property
    def dim(self) -> int:
        """Length of a feature vector: 384 for tiny."""
        return self.encoder.config.d_model

    @torch.inference_mode()
    def __call__(self, waveform: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features of a waveform.

        Args:
            waveform: float ``(samples,)`` in [-1, 1] at 16 kHz.

        Returns:
            float32 ``(round(seconds × 50), dim)``.
        """
        waveform = require_mono(waveform)
        steps = feature_steps(waveform.size)
        if steps == 0:
            return np.zeros((0, self.dim), np.float32)
        log_mel = log_mel_spectrogram(
            waveform, 2 * max(steps, _WINDOW_STEPS), self.encoder.config.num_mel_bins
        )
        windows = overlapping_windows(max(steps, _WINDOW_STEPS), _WINDOW_STEPS, _OVERLAP_STEPS)
        return join(windows, self._encoded(log_mel, windows), _FADE_STEPS)[:steps]

    def _encoded(
        self, log_mel: NDArray[np.float32], windows: list[tuple[int, int]]
    ) -> Iterator[NDArray[np.float32]]:
        for start, stop in windows:
            window = torch.from_numpy(log_mel[None, :, 2 * start : 2 * stop]).to(self.device)
            yield self.encoder(window).last_hidden_state[0].float().cpu().numpy()


def log_mel_spectrogram(waveform: NDArray[np.floating], frames: int, n_mels: int = 80) -> NDArray[np.float32]:
    """Whisper's input: 100 frames a second; the waveform is cut or padded with silence to that many frames.

    Power spectrum of 25 ms Hann windows every 10 ms, Slaney mel filters, log10 clipped 8 below its highest
    value in the whole recording, then (x + 4) / 4.

    Returns:
        float32 ``(n_mels, frames)``.
    """
    fitted = np.zeros(frames * _HOP)
    fitted[: waveform.size] = waveform[: fitted.size]
    padded = np.pad(fitted, _N_FFT // 2, mode="reflect")
    views = sliding_window_view(padded, _N_FFT)[::_HOP][:frames]
    window = np.hanning(_N_FFT + 1)[:-1]
    filters = mel_filterbank(16000, _N_FFT, n_mels)
    log_mel = np.empty((n_mels, frames), np.float32)
    for first in range(0, frames, 1000):
        spectrum = np.fft.rfft(views[first : first + 1000] * window, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2) @ filters
        log_mel[:, first : first + 1000] = np.log10(np.maximum(power, 1e-10)).T
    np.maximum(log_mel, log_mel.max() - 8.0, out=log_mel)
    return (log_mel + 4.0) / 4.0


def _load_encoder(file: Path) -> WhisperEncoder:
    """The encoder of an OpenAI checkpoint, in float32; every tensor must fit."""
    if not file.is_file():
        raise FileError(file, "there is no such file; get it with: talkgen weights get whisper_tiny_en")
    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        sizes, tensors = checkpoint["dims"], checkpoint["model_state_dict"]
        encoder = WhisperEncoder(
            WhisperConfig(
                d_model=sizes["n_audio_state"],
                encoder_layers=sizes["n_audio_layer"],
                encoder_attention_heads=sizes["n_audio_head"],
                encoder_ffn_dim=4 * sizes["n_audio_state"],
                num_mel_bins=sizes["n_mels"],
                max_source_positions=sizes["n_audio_ctx"],
            )
        )
        encoder.load_state_dict(_renamed(tensors), strict=True)
    except (*_UNREADABLE, KeyError, TypeError, RuntimeError) as error:
        raise FileError(file, f"it is not a Whisper checkpoint of OpenAI's layout ({error})") from error
    return encoder.float().eval().requires_grad_(False)


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors under transformers' names."""
    result = {}
    for name, tensor in tensors.items():
        if name.startswith("encoder."):
            name = name.removeprefix("encoder.")
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            result[name] = tensor.float()
    return result
