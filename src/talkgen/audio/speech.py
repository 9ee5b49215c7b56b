"""Speech with exact phoneme times from the espeak-ng synthesiser, in English and Mandarin.

The sound is robotic, but it is the only speech whose phonemes are known to the sample, in any amount, without
a recording of anyone: the demo corpus is made of it. espeak-ng comes as the PyPI package ``espeakng-loader``
(``pip install "talkgen[demo]"``) and is called through ctypes.

The synthesiser keeps state between utterances (pitch flutter, phase of the glottal wave, random numbers), so
the same text sounds different each time. :func:`speak` therefore opens it afresh for every utterance, which
costs 4 ms: the same arguments give the same samples in every process, and nothing is shared with forked
workers.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import threading
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from talkgen.audio.waveform import SAMPLE_RATE, resample
from talkgen.errors import MissingPackage

SILENCE = "_"
"""Symbol of a pause."""

Language = Literal["en", "zh"]
# espeak-ng's own names. Its older releases read Chinese characters under `cmn` as English spelling; the
# release inside espeakng-loader (1.52) does not, and where it cannot read a character `speak` says so.
_ESPEAK_LANGUAGE: dict[str, str] = {"en": "en-us", "zh": "cmn"}

# What espeak-ng calls IPA has remains of its own notation for Mandarin; longest first.
_TO_IPA = (
    ("ts.h", "ʈʂʰ"),
    ("ts.", "ʈʂ"),
    ("tɕh", "tɕʰ"),
    ("tsh", "tsʰ"),
    ("onɡ", "oŋ"),
    ("s.", "ʂ"),
    ("i.", "ɻ̩"),  # the vowel of 是
    ("i̪", "ɹ̩"),  # the vowel of 四
    ("o-", "ɤ"),
    ("ŋ-", "ŋ̍"),  # the syllable 嗯
    ("ph", "pʰ"),
    ("th", "tʰ"),
    ("kh", "kʰ"),
)
_STRESS = "ˈˌ"
_PEAK = 0.7  # every utterance is scaled to this; the variants differ by 10 dB

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_PHONEME_IPA = 0x0002
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_EVENT_LIST_TERMINATED = 0
_EVENT_PHONEME = 7
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_PARAMETER_RANGE = 4


@dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        name: what this voice is called here.
        variant: espeak-ng's voice variant (timbre: formants, breath, roughness), e.g. ``"f2"``.
        pitch: 0 to 100; 50 is the variant's own.
        range: liveliness of the melody, 0 (monotone) to 100.
        rate: words a minute, 80 to 300.
    """

    name: str
    variant: str
    pitch: int = 50
    range: int = 50
    rate: int = 160

    def __post_init__(self) -> None:
        if not (0 <= self.pitch <= 100 and 0 <= self.range <= 100 and 80 <= self.rate <= 300):
            raise ValueError(
                f"voice {self.name}: pitch and range lie in 0…100 and rate in 80…300, "
                f"got {self.pitch}, {self.range}, {self.rate}"
            )


_VOICES = (
    Voice("ada", "f1", 55, 60, 165),
    Voice("ben", "m1", 45, 50, 155),
    Voice("cora", "f2", 62, 45, 150),
    Voice("dan", "m3", 30, 40, 145),
    Voice("eve", "f3", 50, 75, 175),
    Voice("finn", "m7", 55, 65, 170),
    Voice("gwen", "f5", 40, 55, 160),
    Voice("hugh", "Hugo", 40, 55, 160),
    Voice("iris", "Annie", 58, 50, 155),
    Voice("jack", "Jacky", 48, 70, 165),
    Voice("kim", "linda", 52, 55, 170),
    Voice("leo", "Lee", 42, 60, 150),
    Voice("mia", "Alicia", 64, 60, 160),
    Voice("ned", "Gene", 35, 45, 158),
    Voice("olga", "belinda", 45, 40, 148),
    Voice("paul", "paul", 50, 50, 162),
    Voice("quinn", "Andrea", 56, 65, 172),
    Voice("rob", "robert", 38, 55, 152),
    Voice("sue", "steph", 60, 50, 166),
    Voice("tom", "Michael", 46, 60, 156),
)


@dataclass(frozen=True)
class Phoneme:
    """One sound: an IPA symbol without stress marks (or ``SILENCE``), and its time."""

    symbol: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Speech:
    """An utterance.

    Attributes:
        waveform: float32 ``(samples,)`` in [-1, 1].
        sample_rate: samples a second.
        phonemes: in order, without gaps or overlaps, from second 0 to the end of the waveform.
    """

    waveform: NDArray[np.float32]
    sample_rate: int
    phonemes: tuple[Phoneme, ...]

    @property
    def seconds(self) -> float:
        """How long the utterance is."""
        return len(self.waveform) / self.sample_rate


def voices() -> tuple[Voice, ...]:
    """The speakers that come with talkgen; any other :class:`Voice` may be made."""
    return _VOICES


def speak(text: str, language: Language = "en", voice: Voice | str | None = None) -> Speech:
    """Say a text.

    Args:
        text: plain text; ``"zh"`` reads Chinese characters.
        language: ``"en"`` (American English) or ``"zh"`` (Mandarin).
        voice: a :class:`Voice`, or the name of one of :func:`voices`; None is the first of them.

    Returns:
        The same :class:`Speech` for the same arguments, at 16 kHz.

    Raises:
        MissingPackage: espeakng-loader is not installed.
        ValueError: nothing to say, an unknown voice, or a character that espeak-ng cannot read as Chinese
            (syllables in -iong, and -儿 after a vowel).
    """
    if language not in _ESPEAK_LANGUAGE:
        raise ValueError(f"unknown language {language!r}; choose en or zh")
    if not text.strip():
        raise ValueError("there is no text to say")
    with _lock:
        utterance = _synthesise(text, language, _voice(voice))
    if language == "zh":
        _refuse_english_spelling(text, utterance)
    if not utterance.samples.any():
        raise ValueError(f"espeak-ng found nothing to pronounce in {text!r}")
    waveform = resample(utterance.samples.astype(np.float32), utterance.sample_rate, SAMPLE_RATE)
    waveform *= _PEAK / np.abs(waveform).max()
    return Speech(waveform, SAMPLE_RATE, _phonemes(utterance, len(waveform) / SAMPLE_RATE))


@dataclass
class _Utterance:
    samples: NDArray[np.int16]
    sample_rate: int
    events: list[tuple[int, int, str]]  # first sample, position in the text (from 1), espeak-ng's symbol


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak-ng's ``espeak_EVENT``."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)

_lock = threading.Lock()


def _new_lock() -> None:
    """A process forked while another thread was speaking would wait for ever on a lock that nobody holds."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingPackage(
            'speech synthesis needs espeak-ng: pip install "talkgen[demo]" (or pip install espeakng-loader)'
        ) from error
    return espeakng_loader


def _voice(voice: Voice | str | None) -> Voice:
    if isinstance(voice, Voice):
        return voice
    if voice is None:
        return _VOICES[0]
    for known in _VOICES:
        if known.name == voice:
            return known
    raise ValueError(f"unknown voice {voice!r}; choose one of {', '.join(v.name for v in _VOICES)}")


def _synthesise(text: str, language: Language, voice: Voice) -> _Utterance:
    """Open espeak-ng, say one text, and close it again."""
    loader = _loader()
    # espeak-ng itself would fall back on its plain voice without a word.
    if not (Path(loader.get_data_path()) / "voices" / "!v" / voice.variant).is_file():
        raise ValueError(f"voice {voice.name}: espeak-ng has no variant {voice.variant!r}")
    pieces: list[NDArray[np.int16]] = []
    events: list[tuple[int, int, str]] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        if count > 0:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        number = 0
        while event[number].type != _EVENT_LIST_TERMINATED:
            if event[number].type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event[number].id), 8).split(b"\0")[0]
                # Eight bytes hold no terminator, and a longer name is cut there, perhaps within a character.
                symbol = raw.decode("utf-8", errors="ignore")
                events.append((event[number].sample, event[number].text_position, symbol))
            number += 1
        return 0

    callback = _Callback(receive)
    library = ctypes.CDLL(loader.get_library_path())
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    try:
        options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_PHONEME_IPA | _INITIALIZE_DONT_EXIT
        data = os.fsencode(loader.get_data_path())
        rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, options)
        if rate <= 0:
            raise MissingPackage(
                f"espeak-ng cannot read its data at {os.fsdecode(data)}; reinstall espeakng-loader"
            )
        try:
            library.espeak_SetSynthCallback(callback)
            name = f"{_ESPEAK_LANGUAGE[language]}+{voice.variant}"
            if library.espeak_SetVoiceByName(name.encode()) != 0:
                raise MissingPackage(f"espeak-ng has no voice {name}; reinstall espeakng-loader")
            for parameter, value in (
                (_PARAMETER_RATE, voice.rate),
                (_PARAMETER_PITCH, voice.pitch),
                (_PARAMETER_RANGE, voice.range),
            ):
                library.espeak_SetParameter(parameter, value, 0)
            library.espeak_ng_SetRandSeed(1)  # otherwise seeded with the time of day
            encoded = text.encode("utf-8")
            library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        finally:
            library.espeak_Terminate()
    finally:
        _unload(library)
    return _Utterance(np.concatenate([np.zeros(0, np.int16), *pieces]), rate, events)


def _unload(library: ctypes.CDLL) -> None:
    """Take the library out of memory, and its state with it."""
    close = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]
    close(library._handle)


def _phonemes(utterance: _Utterance, seconds: float) -> tuple[Phoneme, ...]:
    """Events as phonemes that follow each other without gaps; neighbouring pauses are one."""
    marks = [(0.0, SILENCE)]
    for sample, _, symbol in utterance.events:
        if symbol.startswith("("):  # (en), (cmn): a change of language, not a sound
            continue
        marks.append((min(sample / utterance.sample_rate, seconds), _ipa(symbol)))
    marks.append((seconds, SILENCE))
    phonemes: list[Phoneme] = []
    for (start, symbol), (end, _) in pairwise(marks):
        if end <= start:
            continue
        if phonemes and symbol == SILENCE == phonemes[-1].symbol:
            phonemes[-1] = Phoneme(SILENCE, phonemes[-1].start_seconds, end)
        else:
            phonemes.append(Phoneme(symbol, start, end))
    return tuple(phonemes)


def _ipa(symbol: str) -> str:
    """espeak-ng's symbol as plain IPA."""
    symbol = symbol.strip(_STRESS)
    for theirs, ipa in _TO_IPA:
        if theirs in symbol:
            return symbol.replace(theirs, ipa)
    return symbol or SILENCE


def _refuse_english_spelling(text: str, utterance: _Utterance) -> None:
    """Characters that espeak-ng does not know as Chinese are spelled out in English; better to say so."""
    for _, position, symbol in utterance.events:
        if symbol == "(en)" and position and "\u3400" <= text[position - 1] <= "\u9fff":
            words = text[position - 1 : position + 3]
            raise ValueError(f"espeak-ng cannot read {words!r} as Chinese; use other words")
