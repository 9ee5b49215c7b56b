"""Pauses become silent; speech and short closures stay as they are."""

from __future__ import annotations

import numpy as np

from talkgen.inference.silence import silence_pauses


def speech() -> np.ndarray:
    """Half a second of speech, 0.1 s of a closure, speech, then 0.5 s of hiss, and speech again."""
    mel = np.full((80, 200), -2.5, np.float32)  # hiss, 62 % of the way down
    mel[10:30] = 1.5
    mel[:, 40:48] = -2.5
    mel[:, 80:120] = -2.5
    return mel


def test_pauses_are_silent_and_the_rest_is_untouched() -> None:
    mel = speech()
    given = mel.copy()
    quiet = silence_pauses(mel)
    assert np.array_equal(mel, given)
    assert np.array_equal(quiet[:, :80], mel[:, :80])  # speech, and the closure in it
    assert np.array_equal(quiet[:, 120:], mel[:, 120:])
    assert (quiet[:, 84:116] == -4).all()
    assert quiet[0, 80] == mel[0, 80] and -4 < quiet[0, 82] < mel[0, 82]  # it fades


def test_loud_breath_is_no_pause() -> None:
    mel = speech()
    mel[40:60, 80:120] = 0.0  # 19 dB under speech
    assert np.array_equal(silence_pauses(mel), mel)
    assert (silence_pauses(mel, below_decibels=10)[:, 90] == -4).all()


def test_the_ends_of_a_clip_do_not_fade() -> None:
    mel = np.concatenate([np.full((80, 30), -3, np.float32), speech()], 1)
    assert (silence_pauses(mel)[:, :25] == -4).all()
