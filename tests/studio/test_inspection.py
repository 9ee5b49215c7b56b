"""What is taken for media, and what is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from talkgen.errors import TalkgenError
from talkgen.studio.inspection import GIVEN, THUMBNAIL, inspect, main


def given(folder: Path, file: Path | bytes) -> Path:
    folder.mkdir()
    content = file if isinstance(file, bytes) else file.read_bytes()
    (folder / GIVEN).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "stored", "sound"),
    [
        ("speaks.mp4", "video", "file.mp4", True),
        ("silent.mp4", "video", "file.mp4", False),
        ("speech.wav", "sound", "file.wav", True),
        ("face.png", "picture", "file.png", False),
    ],
)
def test_kinds(media: Path, tmp_path: Path, name: str, kind: str, stored: str, sound: bool) -> None:
    folder = given(tmp_path / "upload", media / name)
    found = inspect(folder, 5, 4096)
    assert (found.kind, found.file, found.preview, found.has_sound) == (kind, stored, stored, sound)
    assert found.seconds == pytest.approx(0 if kind == "picture" else 1, abs=0.05)
    assert (found.width, found.height) == ((0, 0) if kind == "sound" else (64, 48))
    assert (folder / THUMBNAIL).is_file() == (kind != "sound")
    assert (folder / stored).read_bytes() == (media / name).read_bytes()  # nothing is encoded anew


@pytest.mark.parametrize(
    "content",
    [
        b"This is no video.\n" * 50,
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='file:///etc/hostname'/></svg>",
        b"<html><script>alert(1)</script></html>",
        b"1\n00:00:00,000 --> 00:00:02,000\nsubtitles\n",
        b"#!/bin/sh\nrm -rf /\n",
        b"\x00" * 4096,
        b"PK\x03\x04" + b"\x00" * 200,
        b"%PDF-1.7\n",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 60,
        b"\xff\xd8\xff\xe0" + b"\x00" * 60,
        b"\x1aE\xdf\xa3" + b"\xff" * 60,
    ],
    ids=[f"content{number}" for number in range(14)],
)  # fmt: skip
def test_what_is_no_media(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(TalkgenError):
        inspect(given(tmp_path / "upload", content), 5, 4096)


def test_empty(tmp_path: Path) -> None:
    with pytest.raises(TalkgenError, match="empty"):
        inspect(given(tmp_path / "upload", b""), 5, 4096)


def test_limits(media: Path, tmp_path: Path) -> None:
    with pytest.raises(TalkgenError, match=r"lasts 1 s; at most 0 s"):
        inspect(given(tmp_path / "a", media / "speaks.mp4"), 0.4, 4096)
    with pytest.raises(TalkgenError, match=r"lasts 1 s"):
        inspect(given(tmp_path / "b", media / "speech.wav"), 0.4, 4096)
    with pytest.raises(TalkgenError, match="64 × 48 pixels; at most 50"):
        inspect(given(tmp_path / "c", media / "face.png"), 5, 50)
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(TalkgenError, match="too small for a face"):
        inspect(given(tmp_path / "d", tmp_path / "dot.png"), 5, 4096)


def encoded(file: Path, container: str, codec: str, frames: int = 12, **options: str) -> Path:
    with av.open(str(file), "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), 5 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return file


def test_what_browsers_cannot_play_has_a_preview(tmp_path: Path) -> None:
    folder = given(tmp_path / "upload", encoded(tmp_path / "old.avi", "avi", "mpeg4"))
    found = inspect(folder, 5, 4096)
    assert (found.file, found.preview) == ("file.avi", "preview.mp4")
    with av.open(str(folder / "preview.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_recording_without_a_length(tmp_path: Path) -> None:
    """As browsers record: the length is nowhere stated."""
    folder = given(tmp_path / "upload", encoded(tmp_path / "r.webm", "webm", "libvpx", live="1"))
    found = inspect(folder, 5, 4096)
    assert (found.kind, found.file, found.preview) == ("video", "recorded.mp4", "recorded.mp4")
    assert found.seconds == pytest.approx(1, abs=0.15)
    long = given(tmp_path / "long", encoded(tmp_path / "r2.webm", "webm", "libvpx", frames=40, live="1"))
    with pytest.raises(TalkgenError, match="longer than 1 s"):
        inspect(long, 1, 4096)


def test_a_damaged_video_is_refused(media: Path, tmp_path: Path) -> None:
    content = (media / "speaks.mp4").read_bytes()
    with pytest.raises(TalkgenError):
        inspect(given(tmp_path / "upload", content[: len(content) // 3]), 5, 4096)


def test_the_program_says_json(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(given(tmp_path / "a", media / "face.png")), "5", "4096"]) == 0
    assert '"kind": "picture"' in capsys.readouterr().out
    shutil.rmtree(tmp_path / "a")
    assert main([str(given(tmp_path / "a", media / "text.mp4")), "5", "4096"]) == 0
    said = capsys.readouterr().out
    assert said.startswith('{"reason": ') and str(tmp_path) not in said
