"""Features of HuBERT (Hsu et al., 2021) and its kin, 50 a second: what DiffPoseTalk, GeneFace and DisentTalk
use."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from talkgen.audio.alignment import feature_steps
from talkgen.audio.chunks import join, overlapping_windows
from talkgen.audio.waveform import require_mono
from talkgen.errors import FileError, MissingWeights

_SAMPLES_PER_STEP = 320
_RECEPTIVE_FIELD = 400
_SIDE = (_RECEPTIVE_FIELD - _SAMPLES_PER_STEP) // 2
_FADE_STEPS = 50


class HubertFeatures:
    """HuBERT as a function from a waveform to features.

    HuBERT's convolutions read 400 samples every 320, so n samples give floor((n − 80) / 320) steps: one too
    few. Here 40 samples are added on either side, the sound mirrored, which gives exactly round(seconds × 50)
    steps, each centred on its own 20 ms: step j on second (j + ½)/50
    (``talkgen.audio.alignment.HUBERT_FIRST_STEP_SECONDS``). No recording is padded with silence to a common
    length, which makes the last steps flicker.

    Longer audio is read in overlapping windows that are faded into each other. HuBERT attends to all it is
    given, so windowed features are close to, not equal to, those of the whole; models whose first layer
    normalises over time (hubert-base) also see each window's own loudness.

    Args:
        model: a folder with a saved model (``talkgen.weights.find("hubert_base")`` gives one), or the name of
            a model on the hub that was downloaded before.
        device: where the model runs.
        local_files_only: False allows the download of a model from the hub.
        window_seconds: longest piece that is read at once.
        overlap_seconds: what neighbouring pieces share.

    Raises:
        MissingWeights: the model is not on this machine.
        FileError: the folder does not hold a complete HuBERT model.
    """

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device = "cpu",
        local_files_only: bool = True,
        window_seconds: float = 30.0,
        overlap_seconds: float = 4.0,
    ) -> None:
        self.windowing = (round(window_seconds * 50), round(overlap_seconds * 50))
        overlapping_windows(0, *self.windowing)  # refuses an overlap that does not fit
        network: Any = _load(str(model), local_files_only)
        self.model = network.to(device)
        self.normalise = _normalises(str(model), local_files_only)
        self.device = torch.device(device)

    @property
    def dim(self) -> int:
        """Length of a feature vector: 768 for base models, 1024 for large ones."""
        return self.model.config.hidden_size

    @torch.inference_mode()
    def __call__(self, waveform: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features of the last layer.

        Args:
            waveform: float ``(samples,)`` in [-1, 1] at 16 kHz.

        Returns:
            float32 ``(round(seconds × 50), dim)``.
        """
        waveform = require_mono(waveform)
        steps = feature_steps(waveform.size)
        if steps == 0:
            return np.zeros((0, self.dim), np.float32)
        if self.normalise:
            waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
        padded = np.pad(waveform, (_SIDE, _RECEPTIVE_FIELD), mode="symmetric").astype(np.float32, copy=False)
        windows = overlapping_windows(steps, *self.windowing)
        return join(windows, self._features(padded, windows), _FADE_STEPS)

    def _features(
        self, padded: NDArray[np.float32], windows: list[tuple[int, int]]
    ) -> Iterator[NDArray[np.float32]]:
        for start, stop in windows:
            first = _SAMPLES_PER_STEP * start
            last = _SAMPLES_PER_STEP * (stop - 1) + _RECEPTIVE_FIELD
            piece = torch.from_numpy(padded[None, first:last]).to(self.device)
            yield self.model(piece).last_hidden_state[0].float().cpu().numpy()


def _load(model: str, local_files_only: bool) -> HubertModel:
    try:
        loaded: Any = HubertModel.from_pretrained(
            model, local_files_only=local_files_only, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        if Path(model).is_dir():
            raise FileError(model, f"it holds no readable HuBERT model ({error})") from error
        raise MissingWeights(
            f"HuBERT model {model!r} is not on this machine; get it with: hf download {model}, "
            "or allow the download with local_files_only=False"
        ) from error
    network, report = loaded
    missing = sorted(set(report["missing_keys"]) - {"masked_spec_embed"})  # used in training only
    if missing or report["mismatched_keys"]:
        raise FileError(model, f"the model is not complete: {', '.join(missing) or 'shapes differ'}")
    if prod(network.config.conv_stride) != _SAMPLES_PER_STEP:
        raise FileError(model, f"one step is {prod(network.config.conv_stride)} samples, expected 320")
    return network.float().eval().requires_grad_(False)


def _normalises(model: str, local_files_only: bool) -> bool:
    """Whether the model wants zero mean and unit variance: what its own settings say, else yes (as
    hubert-base)."""
    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(model, local_files_only=local_files_only)
    except OSError:
        return True
    return bool(extractor.do_normalize)
