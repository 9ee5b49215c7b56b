"""How large a picture says it is: one that would fill the memory need not be decoded to be refused."""

from __future__ import annotations

import struct

# Of a JPEG: start of frame, with the size; 0xC4, 0xC8 and 0xCC are tables.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


def picture_size(content: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a png, jpg, webp, bmp or tiff; None where it is none, or damaged."""
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return struct.unpack_from(">II", content, 16)
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp(content)
        if content.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", content, 18)
            return abs(width), abs(height)  # negative: rows from the top
        if content[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(content, "<" if content.startswith(b"II") else ">")
    except struct.error:  # it ends before
        return None
    return None


def _jpeg(content: bytes) -> tuple[int, int] | None:
    place = 2
    while True:
        while content[place : place + 1] == b"\xff":  # any number of them may stand before a marker
            place += 1
        marker, length = struct.unpack_from(">BH", content, place)
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 4)
            return width, height
        place = content.find(b"\xff", place + 1 + length)
        if place < 0:
            return None


def _webp(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        wide, high = content[24:27], content[27:30]
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _tiff(content: bytes, order: str) -> tuple[int, int] | None:
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (entries,) = struct.unpack_from(f"{order}H", content, place)
    size: dict[int, int] = {}
    for number in range(entries):
        tag, kind = struct.unpack_from(f"{order}HH", content, place + 2 + 12 * number)
        value = f"{order}{'H' if kind == 3 else 'I'}"
        (size[tag],) = struct.unpack_from(value, content, place + 10 + 12 * number)
    if _TIFF_WIDTH not in size or _TIFF_HEIGHT not in size:
        return None
    return size[_TIFF_WIDTH], size[_TIFF_HEIGHT]
