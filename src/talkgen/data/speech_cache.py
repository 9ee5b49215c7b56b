"""What every frame of every clip of a store hears, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talkgen.audio.frame_features import FrameFeatures
from talkgen.data.array_cache import ArrayCache
from talkgen.data.clip import Clip
from talkgen.data.store import Store
from talkgen.errors import TalkgenError


def hear_store(
    folder: str | Path, store: Store, features: FrameFeatures, progress: bool = True
) -> ArrayCache:
    """Float32 (frames, dim) of every clip but those that repeat another with a swapped face; Whisper's and
    HuBERT's are taken from the store where it has them.

    Args:
        folder: where they lie.
        store: the clips.
        features: which.
        progress: show a bar.

    Raises:
        TalkgenError: the store has no sound.
    """
    if "waveform" not in store.streams:
        raise TalkgenError("the store was prepared without sound (sound=false): nobody speaks in it")

    def make(clip: Clip) -> np.ndarray:
        if features.kind != "mel" and features.network is None and store.has(clip, features.kind):
            return features.at_frames(store.array(clip, features.kind), clip.frames, clip.fps)
        waveform = store.array(clip, "waveform") / np.float32(32768)
        return features(waveform, clip.frames, clip.fps)

    own = [clip for clip in store.clips if clip.swap_of is None]
    return ArrayCache.build(folder, store, features.key, make, f"hear {features.kind}", progress, own)
