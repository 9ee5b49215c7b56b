"""What the mouth looks like for each sound: 19 visemes for the phonemes of English and Mandarin.

Sounds that lips, jaw and teeth show alike share a viseme (Fisher, 1968; the classes follow the usual fourteen
of MPEG-4 facial animation, with the rounded front vowel and the palatal and retroflex consonants of Mandarin
added). A diphthong passes through several: :func:`viseme_sequence` gives them in order, :func:`viseme` the
one that is open widest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Viseme:
    """A mouth shape.

    Attributes:
        name: what it is called.
        opening: distance of the lips, 0 (closed) to 1 (a wide "ah").
        width: distance of the mouth's corners: −1 rounded and pushed forward, 0 at rest, 1 spread.
        phonemes: the IPA letters that look so.
    """

    name: str
    opening: float
    width: float
    phonemes: tuple[str, ...]


VISEMES: tuple[Viseme, ...] = (
    Viseme("silence", 0.0, 0.0, ("_",)),
    Viseme("closed", 0.0, 0.0, ("p", "pʰ", "b", "m")),
    Viseme("lip_teeth", 0.1, 0.1, ("f", "v")),
    Viseme("tongue_teeth", 0.2, 0.1, ("θ", "ð")),
    Viseme("tongue_ridge", 0.25, 0.1, ("t", "tʰ", "d", "n", "l", "ɾ")),
    Viseme("hiss", 0.12, 0.4, ("s", "z", "ts", "tsʰ", "ɹ̩")),
    Viseme("hush", 0.2, -0.5, ("ʃ", "ʒ", "tʃ", "dʒ")),
    Viseme("palatal", 0.15, 0.5, ("tɕ", "tɕʰ", "ɕ", "j")),
    Viseme("retroflex", 0.2, -0.2, ("ʈʂ", "ʈʂʰ", "ʂ", "ʐ", "ɻ̩")),
    Viseme("rhotic", 0.25, -0.4, ("ɹ", "r")),
    Viseme("back", 0.3, 0.0, ("k", "kʰ", "ɡ", "ŋ", "ŋ̍", "x", "χ", "h", "ʔ")),
    Viseme("rounded_close", 0.2, -1.0, ("u", "ʊ", "w")),
    Viseme("rounded_mid", 0.5, -0.7, ("o", "ɔ")),
    Viseme("rounded_front", 0.18, -0.8, ("y",)),
    Viseme("open", 1.0, 0.0, ("a", "ɑ")),
    Viseme("open_spread", 0.8, 0.5, ("æ",)),
    Viseme("mid_spread", 0.5, 0.5, ("e", "ɛ")),
    Viseme("neutral", 0.4, 0.0, ("ə", "ɚ", "ɜ", "ʌ", "ɐ", "ɤ")),
    Viseme("spread", 0.25, 0.9, ("i", "ɪ", "ᵻ")),
)

_BY_PHONEME = {letter: shape for shape in VISEMES for letter in shape.phonemes}
_LONGEST = max(map(len, _BY_PHONEME))
_NO_SHAPE = (
    "ː̩"  # length, and the mark of a consonant that is a syllable (n̩), change the time and not the mouth
)


@lru_cache(maxsize=1024)
def viseme_sequence(symbol: str) -> tuple[Viseme, ...]:
    """Mouth shapes of a phoneme in order: one for most, more for diphthongs (``"aɪ"``) and clusters
    (``"ɑːɹ"``).

    Args:
        symbol: an IPA symbol as :func:`talkgen.audio.speech.speak` gives it, without stress.

    Raises:
        ValueError: a letter of it has no viseme here.
    """
    shapes: list[Viseme] = []
    rest = symbol
    while rest:
        for length in range(min(_LONGEST, len(rest)), 0, -1):
            if rest[:length] in _BY_PHONEME:
                shapes.append(_BY_PHONEME[rest[:length]])
                break
        else:
            if rest[0] not in _NO_SHAPE:
                raise ValueError(f"no viseme for {rest[0]!r} in phoneme {symbol!r}")
            length = 1
        rest = rest[length:]
    if not shapes:
        raise ValueError(f"no viseme for phoneme {symbol!r}")
    return tuple(shape for i, shape in enumerate(shapes) if i == 0 or shape is not shapes[i - 1])


def viseme(symbol: str) -> Viseme:
    """The mouth shape that stands for a phoneme: of a sequence the widest open, of equal ones the first."""
    return max(viseme_sequence(symbol), key=lambda shape: shape.opening)
