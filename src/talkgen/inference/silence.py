"""Where nobody speaks: pauses of the driving sound made quite silent, so that lips close and rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from talkgen.audio.alignment import MEL_STEPS_PER_SECOND
from talkgen.audio.mel import MEL_SILENCE

UNITS_PER_DECIBEL = 0.08  # Wav2Lip's mels lay 100 dB over −4 … 4


def silence_pauses(
    mel: NDArray[np.float32],
    below_decibels: float = 30.0,
    shortest_seconds: float = 0.2,
    fade_seconds: float = 0.05,
) -> NDArray[np.float32]:
    """The mel with its pauses turned down to digital silence.

    A network that learned lips from studio speech takes breath, music and noise for speech; in digital
    silence, which closes every clip that it saw, it closes the mouth. A pause is where the level stays
    ``below_decibels`` under that of speech (the 95th percentile of the clip) for ``shortest_seconds``: the
    closures of plosives are shorter.

    Args:
        mel: ``(bands, steps)`` in Wav2Lip's units, −4 is silent.
        below_decibels: how far under the level of speech a pause begins.
        shortest_seconds: of a pause.
        fade_seconds: over which it begins and ends, inside the pause.

    Returns:
        A new array; ``mel`` itself is not changed.
    """
    level = mel.max(0)  # the loudest band: speech is narrow, noise is flat
    quiet = level < np.percentile(level, 95) - below_decibels * UNITS_PER_DECIBEL
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    keep = np.ones(mel.shape[1], np.float32)
    fade = max(1, round(fade_seconds * MEL_STEPS_PER_SECOND))
    for start, stop in edges.reshape(-1, 2):
        if stop - start < shortest_seconds * MEL_STEPS_PER_SECOND:
            continue
        place = np.arange(stop - start)
        # The ends of a clip are no edges: nothing is heard beyond them.
        before = place if start else np.full_like(place, fade)
        after = place[::-1] if stop < len(keep) else np.full_like(place, fade)
        keep[start:stop] = np.clip(1 - np.minimum(before, after) / fade, 0, 1)
    return (MEL_SILENCE + keep * (mel - MEL_SILENCE)).astype(np.float32)
