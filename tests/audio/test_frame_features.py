"""What a frame hears: the right stretch of the mel, and the same for any length of the sound."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from talkgen.audio.frame_features import FrameFeatures
from talkgen.audio.mel import mel_spectrogram
from talkgen.errors import TalkgenError

WAVE = (0.3 * np.sin(np.arange(16000) * 0.3) * np.linspace(0, 1, 16000)).astype(np.float32)


def test_mel_is_the_hundred_milliseconds_around_a_frame() -> None:
    heard = FrameFeatures("mel")(WAVE, 25)
    assert heard.shape == (25, 640) and heard.dtype == np.float32
    mel = mel_spectrogram(WAVE)
    # frame 10 of 25 a second: its middle is second 0.42, column 33.6; eight columns about it: 30 to 37
    np.testing.assert_allclose(heard[10].reshape(80, 8), mel[:, 30:38] / 4, atol=1e-6)


def test_beyond_the_end_the_last_moment_is_held() -> None:
    heard = FrameFeatures("mel")(WAVE, 40)
    np.testing.assert_array_equal(heard[30], heard[39])


def test_features_of_networks_are_taken_at_the_middle_of_frames() -> None:
    steps = np.arange(50, dtype=np.float32)[:, None]
    # its middle is second 0.42: step 21 of Whisper (step j at j / 50), 20.5 of HuBERT (half a step later)
    assert FrameFeatures("whisper").at_frames(steps, 25)[10, 0] == pytest.approx(21.0)
    assert FrameFeatures("hubert").at_frames(steps, 25)[10, 0] == pytest.approx(20.5)


def test_names_alone_are_pickled_and_nonsense_is_refused() -> None:
    features = pickle.loads(pickle.dumps(FrameFeatures("whisper", "some/file.pt")))
    assert (features.kind, features.network) == ("whisper", "some/file.pt")
    assert features.key != FrameFeatures("whisper").key
    with pytest.raises(TalkgenError, match="not 'mfcc'"):
        FrameFeatures("mfcc")  # type: ignore[arg-type]
    with pytest.raises(TalkgenError, match="of no network"):
        FrameFeatures("mel", "x")
