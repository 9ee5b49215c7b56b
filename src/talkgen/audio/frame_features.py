"""What a frame of video hears: one vector a frame, from a mel spectrogram, Whisper or HuBERT."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from talkgen.audio.alignment import (
    HUBERT_FIRST_STEP_SECONDS,
    WHISPER_FIRST_STEP_SECONDS,
    features_at_frames,
    mel_windows,
    per_frame_mel_window,
)
from talkgen.audio.mel import mel_spectrogram
from talkgen.errors import TalkgenError

Kind = Literal["mel", "whisper", "hubert"]

FIRST_STEP_SECONDS = {"whisper": WHISPER_FIRST_STEP_SECONDS, "hubert": HUBERT_FIRST_STEP_SECONDS}
_COLUMNS = 8  # of the mel, 100 ms around the middle of a frame
_MELS = 80
_MEL_RANGE = 4.0  # the mel lies between −4 and 4


class FrameFeatures:
    """A waveform → one vector a frame.

    `mel`: 8 columns of 80 mels around the middle of the frame, between −1 and 1 (mel by mel): 640 numbers,
    which need no weights and see 100 ms. `whisper`, `hubert`: 50 features a second, interpolated at the
    middle of the frame.

    A network is opened when it is first needed; pickling sends its name alone.

    Args:
        kind: which.
        network: file of Whisper, folder or hub id of HuBERT (a Chinese one, say); None: the registered one.
        device: where it runs.

    Raises:
        TalkgenError: there is no such kind, or a network was named for the mel.
    """

    def __init__(self, kind: Kind = "mel", network: str | None = None, device: str = "cpu") -> None:
        if kind not in get_args(Kind):
            raise TalkgenError(f"what a frame hears is mel, whisper or hubert, not {kind!r}")
        if kind == "mel" and network is not None:
            raise TalkgenError(f"the mel is of no network; leave {network} out")
        self.kind: Kind = kind
        self.network = network
        self.device = device

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameFeatures, (self.kind, self.network, self.device)

    @property
    def key(self) -> str:
        """What the features depend on, beside the sound."""
        return f"{self.kind} {self.network or 'registered'}"

    @cached_property
    def _network(self) -> Any:
        if self.kind == "whisper":
            from talkgen.audio.whisper import WhisperFeatures

            return WhisperFeatures(self.network, self.device)
        from talkgen import weights
        from talkgen.audio.hubert import HubertFeatures

        return HubertFeatures(Path(self.network or weights.find("hubert_base")), self.device)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return _MELS * _COLUMNS if self.kind == "mel" else int(self._network.dim)

    def __call__(self, waveform: NDArray[np.floating], frames: int, fps: float = 25.0) -> NDArray[np.float32]:
        """Features of frames 0 to `frames` − 1; beyond the end of the sound its last moment is held.

        Args:
            waveform: float (samples,) in [-1, 1] at 16 kHz.
            frames: of the video.
            fps: its rate.

        Returns:
            float32 (frames, dim).
        """
        if self.kind == "mel":
            mel = mel_spectrogram(waveform)
            starts = [per_frame_mel_window(k, fps, "centred", _COLUMNS).start for k in range(frames)]
            windows = mel_windows(mel, np.array(starts, np.int64), _COLUMNS)
            return (windows.reshape(frames, -1) / _MEL_RANGE).astype(np.float32)
        return self.at_frames(self._network(waveform), frames, fps)

    def at_frames(self, steps: NDArray[np.floating], frames: int, fps: float = 25.0) -> NDArray[np.float32]:
        """The same from features of 50 a second (steps, dim) that were computed before."""
        return features_at_frames(steps, frames, fps, first_step_seconds=FIRST_STEP_SECONDS[self.kind])
