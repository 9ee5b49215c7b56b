from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from bad_media import turned_jpeg

from talkgen.video.picture_header import picture_size


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("size", [(1, 1), (37, 290), (300, 16)])
def test_what_the_header_says_is_what_is_decoded(suffix: str, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    for options in ([], [cv2.IMWRITE_WEBP_QUALITY, 80] if suffix == ".webp" else []):
        content = cv2.imencode(suffix, picture, options)[1].tobytes()
        assert picture_size(content) == size
        for length in range(0, min(len(content), 200)):
            assert picture_size(content[:length]) in (None, size)


def test_entries_before_the_size_are_skipped(tmp_path) -> None:
    turned_jpeg(tmp_path / "a.jpg")
    assert picture_size((tmp_path / "a.jpg").read_bytes()) == (160, 160)


def test_large_and_extended_webp() -> None:
    extended = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + (9999).to_bytes(3, "little") * 2
    assert picture_size(extended) == (10_000, 10_000)


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a\1\0\1\0", b"\xff\xd8\xff\xe0\0\x10JFIF"])
def test_what_is_none_of_them(content: bytes) -> None:
    assert picture_size(content) is None
