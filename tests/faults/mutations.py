"""Seeded damage to files: bits, stretches, lengths; and to text: values of the wrong kind."""

from __future__ import annotations

import random
import re
import struct

# Numbers at which arithmetic turns over.
_EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**64 - 1,
)
# Values that no writer of such a file would choose.
_VALUES = (
    "null", "-1", "0", "1e308", "-1e999", "NaN", "1e-320", "true", "[]", "{}", '""', '"../../../escaped"',
    '"/etc/hostname"', '"a\\u0000b"', '"\\ud800"', "9" * 400, "9" * 5000, "[" * 3000, '{"a": [1, 2]}', "12.5",
    '"' + "x" * 70_000 + '"', "99999999999", '"train; touch escaped"', '"$(touch escaped)"', "2**63",
    "!!python/none",
)  # fmt: skip
_WORD = re.compile(r"\"(?:[^\"\\]|\\.)*\"|-?\d+(?:\.\d+)?|\b(?:true|false|null)\b|(?<=: )[\w./-]+")


def damaged(content: bytes, chance: random.Random, text: bool = False) -> bytes:
    """A file with one to four things wrong with it.

    Args:
        content: of a sound file.
        chance: decides what and where.
        text: damage values half of the time.
    """
    for _ in range(chance.choice((1, 1, 2, 4))):
        if text and chance.random() < 0.7:
            content = _with_another_value(content.decode("utf-8", "replace"), chance).encode(
                "utf-8", "replace"
            )
        else:
            content = chance.choice(_WAYS)(bytearray(content), chance)
    return content


def _with_another_value(text: str, chance: random.Random) -> str:
    places = list(_WORD.finditer(text))
    if not places:
        return text
    place = chance.choice(places)
    other = chance.choice(_VALUES) if chance.random() < 0.8 else chance.choice(places).group()
    return text[: place.start()] + other + text[place.end() :]


def _place(content: bytearray, chance: random.Random) -> int:
    """Somewhere; headers and indexes lie at the ends, so every second place is there."""
    near = min(len(content), 700)
    where = chance.random()
    if where < 0.3:
        return chance.randrange(near)
    if where < 0.5:
        return len(content) - 1 - chance.randrange(near)
    return chance.randrange(len(content))


def _bits(content: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 3, 16)) if content else 0):
        content[_place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(content)


def _number(content: bytearray, chance: random.Random) -> bytes:
    width = chance.choice((1, 2, 4, 8))
    value = chance.choice(_EDGES) & (2 ** (8 * width) - 1)
    packed = struct.pack("<Q", value)[:width]
    place = _place(content, chance) if content else 0
    content[place : place + width] = packed if chance.random() < 0.5 else packed[::-1]
    return bytes(content)


def _cut(content: bytearray, chance: random.Random) -> bytes:
    return bytes(content[: chance.randrange(len(content) + 1)])


def _hole(content: bytearray, chance: random.Random) -> bytes:
    place = _place(content, chance) if content else 0
    del content[place : place + chance.choice((1, 4, 16, 256, 4096))]
    return bytes(content)


def _repeated(content: bytearray, chance: random.Random) -> bytes:
    place = _place(content, chance) if content else 0
    piece = content[place : place + chance.choice((4, 64, 1024))]
    other = chance.randrange(len(content) + 1)
    return bytes(content[:other] + piece * chance.choice((1, 1, 3)) + content[other:])


def _noise(content: bytearray, chance: random.Random) -> bytes:
    place = _place(content, chance) if content else 0
    piece = chance.randbytes(chance.choice((1, 8, 64, 512)))
    content[place : place + chance.choice((0, len(piece)))] = piece
    return bytes(content)


def _zeros(content: bytearray, chance: random.Random) -> bytes:
    place = _place(content, chance) if content else 0
    length = min(chance.choice((4, 32, 512)), len(content) - place)
    content[place : place + length] = bytes(length)
    return bytes(content)


_WAYS = (_bits, _bits, _number, _number, _number, _cut, _hole, _repeated, _noise, _zeros)
