"""Synthetic speech: times of phonemes, languages, voices, and that it is the same every time."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

from talkgen.audio.mel import mel_spectrogram
from talkgen.audio.speech import SILENCE, Voice, speak, voices
from talkgen.errors import MissingPackage

pytest.importorskip("espeakng_loader")


def symbols(speech) -> list[str]:
    return [p.symbol for p in speech.phonemes if p.symbol != SILENCE]


def fingerprint(arguments) -> tuple[float, int]:
    waveform = speak(*arguments).waveform
    return float(np.abs(waveform).sum()), len(waveform)


def test_english_is_said_as_english():
    assert symbols(speak("Hello, this is fun.")) == [
        "h",
        "ə",
        "l",
        "oʊ",
        "ð",
        "ɪ",
        "s",
        "ɪ",
        "z",
        "f",
        "ʌ",
        "n",
    ]


def test_chinese_characters_are_read_as_chinese():
    assert symbols(speak("你好", "zh")) == ["n", "i", "χ", "ɑu"]
    assert symbols(speak("知识", "zh")) == ["ʈʂ", "ɻ̩", "ʂ", "ɻ̩"]
    assert "tʰ" in symbols(speak("他", "zh")) and "tʰ" not in symbols(speak("大", "zh"))


def test_a_character_that_would_be_spelled_in_english_is_refused():
    with pytest.raises(ValueError, match="熊"):
        speak("这是熊猫", "zh")
    assert symbols(speak("我用GPS", "zh"))[:3] == ["w", "o", "j"]  # Latin letters may be English


@pytest.mark.parametrize(
    ("text", "language"), [("Six boats, two big dogs.", "en"), ("我们去公园，好吗？", "zh")]
)
def test_phonemes_cover_the_sound_without_gaps(text, language):
    speech = speak(text, language)
    assert speech.sample_rate == 16000 and speech.waveform.dtype == np.float32
    assert np.abs(speech.waveform).max() == pytest.approx(0.7)
    assert speech.phonemes[0].start_seconds == 0
    assert speech.phonemes[-1].end_seconds == pytest.approx(speech.seconds)
    for before, after in pairwise(speech.phonemes):
        assert before.end_seconds == after.start_seconds
        assert before.start_seconds < before.end_seconds
        assert not (before.symbol == after.symbol == SILENCE)


@pytest.mark.parametrize(
    ("text", "language"), [("Bob, see the sun. A pause.", "en"), ("你好，今天很冷。", "zh")]
)
def test_pauses_are_silent_and_vowels_are_loud(text, language):
    speech = speak(text, language)

    def level(phoneme):
        inside = speech.waveform[
            round((phoneme.start_seconds + 0.01) * 16000) : round((phoneme.end_seconds - 0.01) * 16000)
        ]
        return float(np.sqrt(np.mean(inside**2))) if inside.size > 100 else None

    pauses = [level(p) for p in speech.phonemes if p.symbol == SILENCE]
    vowels = [level(p) for p in speech.phonemes if p.symbol[0] in "aɑəɛiʌoɔ"]
    assert max(x for x in pauses if x is not None) < 0.003
    assert min(x for x in vowels if x is not None) > 0.02


def test_symbols_are_plain():
    for text, language in [("Extraordinary measures, surely!", "en"), ("十四是十四，四十是四十。", "zh")]:
        for symbol in symbols(speak(text, language)):
            assert not set(symbol) & set("ˈˌ.-()[]0123456789\0")
            assert symbol == symbol.strip() and symbol


def test_the_same_words_give_the_same_samples():
    first = speak("The very same words.", "en", "eve")
    for text, language, voice in [("Something else!", "en", "dan"), ("别的话", "zh", "hugh")]:
        speak(text, language, voice)
    again = speak("The very same words.", "en", "eve")
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert first.phonemes == again.phonemes


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_say_the_same(method):
    jobs = [("Good morning, everyone.", "en", "ben"), ("早上好", "zh", "ada"), ("Good night.", "en", "leo")]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(fingerprint, jobs, chunksize=1) == [fingerprint(job) for job in jobs]


def test_threads_take_turns():
    expected = fingerprint(("Taking turns.", "en", "ada"))
    results: list[tuple[float, int]] = []
    threads = [
        threading.Thread(target=lambda: results.append(fingerprint(("Taking turns.", "en", "ada"))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_voices_are_many_and_sound_different():
    assert len(voices()) >= 16
    assert len({v.name for v in voices()}) == len({v.variant for v in voices()}) == len(voices())
    colours = []
    for voice in voices():
        mel = mel_spectrogram(speak("The boy and the girl walked along the river.", "en", voice).waveform)
        colours.append(mel[:, mel.max(axis=0) > -2].mean(axis=1))
    distance = np.sqrt(((np.stack(colours)[:, None] - np.stack(colours)) ** 2).mean(axis=-1))
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.2  # of 8: every pair differs by 2.5 dB over all bands


def test_a_voice_changes_pitch_and_pace():
    text = "One two three four five."
    slow = speak(text, "en", Voice("slow", "m1", rate=100))
    fast = speak(text, "en", Voice("fast", "m1", rate=220))
    assert slow.seconds > 1.4 * fast.seconds
    assert symbols(slow) == symbols(fast)


def test_wrong_wishes_are_refused():
    with pytest.raises(ValueError, match="unknown voice"):
        speak("Hi.", "en", "nobody")
    with pytest.raises(ValueError, match="unknown language"):
        speak("Salut.", "fr")
    with pytest.raises(ValueError, match="no text"):
        speak("  \n")
    with pytest.raises(ValueError, match="no variant"):
        speak("Hi.", "en", Voice("x", "no such variant"))
    with pytest.raises(ValueError, match="pitch"):
        Voice("x", "m1", pitch=101)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingPackage, match=r"talkgen\[demo\]"):
        speak("Hi.")


def test_a_fresh_process_says_the_same():
    code = (
        "import numpy as np; from talkgen.audio.speech import speak;"
        "w = speak('A fresh start.', 'en', 'kim').waveform; print(repr((float(np.abs(w).sum()), len(w))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == repr(fingerprint(("A fresh start.", "en", "kim")))
