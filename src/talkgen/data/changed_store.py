"""A store whose clips are heard or seen otherwise than they were prepared, without a copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkgen.audio.mel import mel_spectrogram
from talkgen.data.clip import Clip
from talkgen.data.store import Store
from talkgen.errors import TalkgenError

HEARD = ("whisper", "hubert")
"""Arrays that networks made of the sound; they cannot be made anew here."""


class ChangedStore:
    """Offers what readers of a ``Store`` use; mel and waveform are those of the changed sound.

    Args:
        store: as prepared.
        sound: float32 waveform at 16 kHz → another of the same length; None leaves it.
        pictures: (frames uint8 (n, h, w, 3), landmarks (n, 68, 2)) → frames; None leaves them.
    """

    def __init__(
        self,
        store: Store,
        sound: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
        pictures: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.store = store
        self.sound = sound
        self.pictures = pictures
        self._waveform = lru_cache(maxsize=4)(self._change_sound)
        self._mel = lru_cache(maxsize=4)(self._change_mel)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the store's own."""
        return getattr(self.store, name)

    def frames(self, clip: Clip, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """As ``Store.frames``."""
        stop = clip.frames if stop is None else stop
        return self._seen(clip, self.store.frames(clip, start, stop), np.arange(start, stop))

    def frames_at(self, clip: Clip, frames: Iterable[int]) -> NDArray[np.uint8]:
        """As ``Store.frames_at``."""
        numbers = list(frames)
        return self._seen(clip, self.store.frames_at(clip, numbers), np.array(numbers, np.int64))

    def array(self, clip: Clip, name: str, start: int | None = None, stop: int | None = None) -> NDArray[Any]:
        """As ``Store.array``.

        Raises:
            TalkgenError: what was made of the sound by a network is asked for, and the sound is changed.
        """
        if self.sound is None or name not in ("waveform", "mel", *HEARD):
            return self.store.array(clip, name, start, stop)
        if name in HEARD:
            raise TalkgenError(
                f"the sound is changed, and the {name} features in the store are those of the old one"
            )
        if name == "mel":
            return self._mel(clip.id)[:, start:stop]
        return self._waveform(clip.id)[start:stop]

    def _seen(self, clip: Clip, frames: NDArray[np.uint8], numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self.pictures is None:
            return frames
        return self.pictures(frames, self.store.array(clip, "landmarks")[numbers])

    def _change_sound(self, clip_id: str) -> NDArray[np.int16]:
        assert self.sound is not None
        samples = self.store.array(self.store.clip(clip_id), "waveform")
        stored: NDArray[np.float32] = samples.astype(np.float32) / np.float32(32768)
        changed = np.clip(self.sound(stored), -1, 1) * 32767
        return changed.round().astype(np.int16)

    def _change_mel(self, clip_id: str) -> NDArray[np.float32]:
        waveform = self._waveform(clip_id).astype(np.float32) / 32768
        mel = mel_spectrogram(waveform)
        wanted = self.store.array(self.store.clip(clip_id), "mel").shape[1]
        if mel.shape[1] < wanted:
            mel = np.concatenate([mel, np.repeat(mel[:, -1:], wanted - mel.shape[1], 1)], 1)
        return mel[:, :wanted].astype(np.float32)
