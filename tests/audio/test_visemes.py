"""Visemes: every sound of the sentences has one, and the shapes are what phonetics says."""

from __future__ import annotations

import pytest

from talkgen.audio.sentences import SENTENCES
from talkgen.audio.speech import speak
from talkgen.audio.visemes import VISEMES, viseme, viseme_sequence

# Words for sounds that are rare in sentences: syllabic n, nasal interjection, glottal stop, Scottish loch.
RARE = {
    "en": (
        "button",
        "mountain",
        "little",
        "loch",
        "uh-oh",
        "beige",
        "sure",
        "cure",
        "fire",
        "oil",
        "employer",
    ),
    "zh": (
        "嗯",
        "儿",
        "日子",
        "自己",
        "女",
        "略",
        "军",
        "翁",
        "诶",
        "哟",
        "啊",
        "呀",
        "歪",
        "帅",
        "选",
    ),
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_phoneme_is_mapped_and_sentences_last_two_to_four_seconds(language):
    pytest.importorskip("espeakng_loader")
    sentences = SENTENCES[language]
    assert len(set(sentences)) == len(sentences) >= 60
    seen = set()
    for sentence in sentences:
        speech = speak(sentence, language)
        assert 2 <= speech.seconds <= 4, sentence
        seen |= {viseme(p.symbol).name for p in speech.phonemes}
    for word in RARE[language]:
        seen |= {viseme(p.symbol).name for p in speak(word, language).phonemes}
    missing = {shape.name for shape in VISEMES} - seen
    assert (
        missing == {"en": {"rounded_front", "retroflex"}, "zh": {"tongue_teeth", "hush", "rhotic"}}[language]
    )


def test_there_are_fifteen_to_twenty_and_they_differ():
    assert 15 <= len(VISEMES) <= 20
    assert len({shape.name for shape in VISEMES}) == len(VISEMES)
    letters = [letter for shape in VISEMES for letter in shape.phonemes]
    assert len(letters) == len(set(letters))
    for shape in VISEMES:
        assert 0 <= shape.opening <= 1 and -1 <= shape.width <= 1


@pytest.mark.parametrize(
    ("symbol", "names"),
    [
        ("_", ["silence"]),
        ("m", ["closed"]),
        ("pʰ", ["closed"]),
        ("tʃ", ["hush"]),
        ("ts", ["hiss"]),
        ("tɕʰ", ["palatal"]),
        ("ʈʂʰ", ["retroflex"]),
        ("iː", ["spread"]),
        ("ɜː", ["neutral"]),
        ("n̩", ["tongue_ridge"]),
        ("ɹ̩", ["hiss"]),  # the vowel of 四, not an English r
        ("ɹ", ["rhotic"]),
        ("aɪ", ["open", "spread"]),
        ("oʊ", ["rounded_mid", "rounded_close"]),
        ("uei", ["rounded_close", "mid_spread", "spread"]),
        ("ɑːɹ", ["open", "rhotic"]),
        ("oŋ", ["rounded_mid", "back"]),
        ("əl", ["neutral", "tongue_ridge"]),
        ("aɪɚ", ["open", "spread", "neutral"]),
    ],
)
def test_sequences_by_hand(symbol, names):
    assert [shape.name for shape in viseme_sequence(symbol)] == names


@pytest.mark.parametrize(
    ("symbol", "name"), [("aɪ", "open"), ("iɛ", "mid_spread"), ("uo", "rounded_mid"), ("iou", "rounded_mid")]
)
def test_the_widest_open_shape_stands_for_a_diphthong(symbol, name):
    assert viseme(symbol).name == name


def test_lips_close_only_where_they_must():
    assert {letter for shape in VISEMES if shape.opening == 0 for letter in shape.phonemes} == {
        "_", "p", "pʰ", "b", "m"
    }  # fmt: skip


def test_unknown_sounds_are_refused():
    for symbol in ("ʘ", "", "ː"):
        with pytest.raises(ValueError, match="no viseme"):
            viseme(symbol)
