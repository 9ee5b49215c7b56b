"""How much of a sound is speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from talkgen import weights
from talkgen.errors import TalkgenError

SpeechRatio = Callable[[np.ndarray], float]
DETECTORS = ("auto", "energy", "silero")

_HOP = 512  # samples at 16 kHz: 32 ms
_CONTEXT = 64  # samples of the previous piece that Silero's network wants before each piece


def energy_speech_ratio(waveform: np.ndarray) -> float:
    """Share of 32 ms pieces that are loud: above -50 dB full scale and above the loudest tenth less 25 dB.

    It cannot tell speech from music; what it finds is silence, hum and missing sound.

    Args:
        waveform: 16 kHz, `(samples,)` in [-1, 1].
    """
    pieces = waveform[: len(waveform) // _HOP * _HOP].reshape(-1, _HOP).astype(np.float64)
    if len(pieces) == 0:
        return 0.0
    level = 10 * np.log10(np.mean(pieces**2, axis=1) + 1e-12)
    loud = np.quantile(level, 0.9)
    return float(np.mean(level > max(-50.0, loud - 25.0)))


class SileroSpeechRatio:
    """Share of 32 ms pieces that Silero's voice activity network takes for speech.

    Args:
        threshold: least probability.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.threshold = threshold
        self._network: Any = onnxruntime.InferenceSession(
            str(weights.find("silero_vad")), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, waveform: np.ndarray) -> float:
        """Share of speech in a 16 kHz waveform `(samples,)`."""
        pieces = waveform[: len(waveform) // _HOP * _HOP].reshape(-1, _HOP).astype(np.float32)
        state = np.zeros((2, 1, 128), np.float32)
        context = np.zeros((1, _CONTEXT), np.float32)
        rate = np.array(16000, np.int64)
        speech = 0
        for piece in pieces:
            heard = np.concatenate([context, piece[None]], axis=1)
            probability, state = self._network.run(None, {"input": heard, "state": state, "sr": rate})
            speech += float(probability[0, 0]) >= self.threshold
            context = piece[None, -_CONTEXT:]
        return speech / len(pieces) if len(pieces) else 0.0


def resolve_detector(name: str) -> str:
    """The detector that `auto` stands for on this machine: `silero` where its file lies, else `energy`."""
    if name not in DETECTORS:
        raise TalkgenError(f"no speech detector {name!r}; choose {', '.join(DETECTORS)}")
    if name == "auto":
        return "silero" if weights.available("silero_vad") else "energy"
    return name


def make_speech_ratio(name: str) -> SpeechRatio:
    """A function from a waveform to its share of speech.

    Raises:
        MissingWeights: the network's file is not on this machine.
    """
    return SileroSpeechRatio() if resolve_detector(name) == "silero" else energy_speech_ratio
