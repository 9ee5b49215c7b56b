"""Files as users have them: broken, misnamed, empty, extreme, and a few that are merely unusual.

A face is a red square, see ``square_faces``. Every maker takes the path to write.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import soundfile

from talkgen.audio.waveform import save_waveform

Maker = Callable[[Path], object]
GROUND, FACE, PATTERN = 90, (220, 40, 40), (255, 90, 90)
ONE = ((50, 50, 60),)
THREE = ((5, 10, 30), (55, 60, 50), (120, 90, 34))


def picture(size: tuple[int, int] = (160, 160), faces: Sequence[tuple[int, int, int]] = ONE) -> np.ndarray:
    """A grey picture (width, height) with red squares ``(x, y, side)`` for a 160 pixel wide one."""
    image = np.full((160, 160, 3), GROUND, np.uint8)
    for x, y, side in faces:
        image[max(y, 0) : y + side, max(x, 0) : x + side] = FACE
        rows = slice(max(y + side // 4, 0), max(y + side // 2, 0), 4)
        image[rows, max(x + 8, 0) : max(x + side - 8, 0)] = PATTERN
    if size == (160, 160):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))


def sound(seconds: float, rate: int = 16000) -> np.ndarray:
    """A hum that comes and goes."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * 180 * time) * (np.sin(2 * np.pi * 3 * time) > -0.5)).astype(np.float32)


def video(
    file: Path,
    frames: int = 10,
    fps: float | Fraction = 25,
    size: tuple[int, int] = (160, 160),
    faces: Callable[[int], Sequence[tuple[int, int, int]]] = lambda k: ONE,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[float] | None = None,
    seconds_of_sound: float = 0,
    rotation: int = 0,
    shape: Fraction | None = None,
    container: str | None = None,
    index_first: bool = False,
    level: int | None = None,
) -> Path:
    """A video of ``picture``s; ``level`` paints all of them in one shade."""
    options = {"movflags": "+faststart"} if index_first else {}
    with av.open(str(file), "w", format=container, options=options) as out:
        rate = Fraction(fps).limit_denominator(1001)
        stream: Any = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], pixels
        if codec in ("libx264", "libx264rgb"):
            stream.options = {"preset": "ultrafast", "crf": "12"}
        else:
            stream.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 90_000)
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        if rotation:
            stream.set_display_rotation(rotation)
        heard: Any = out.add_stream("aac", rate=16000, layout="mono") if seconds_of_sound else None
        for number in range(frames):
            image = (
                np.full((*size[::-1], 3), level, np.uint8)
                if level is not None
                else picture(size, faces(number))
            )
            image = image.copy()
            image[:, :2] = 5 * number % 250
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            if times is None:
                frame.pts, frame.time_base = number, 1 / rate
            else:
                frame.pts, frame.time_base = round(times[number] * 90_000), Fraction(1, 90_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if heard is not None:
            wave = sound(seconds_of_sound)[None]
            piece = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 16000, 0, Fraction(1, 16000)
            out.mux(heard.encode(piece))
            out.mux(heard.encode(None))
    return file


def cut(make: Callable[..., Path], share: float, **how: Any) -> Maker:
    """What is left of a file whose copying was broken off."""

    def maker(file: Path) -> None:
        whole = make(file, **how).read_bytes()
        file.write_bytes(whole[: int(len(whole) * share)])

    return maker


def scratched(file: Path) -> None:
    """A video in whose middle some bytes are wrong."""
    content = bytearray(video(file, frames=40, index_first=True).read_bytes())
    middle = 2 * len(content) // 3
    content[middle : middle + 60] = bytes(range(60))
    file.write_bytes(content)


def misnamed(make: Callable[..., object], suffix: str, **how: Any) -> Maker:
    """A file whose name ends otherwise than its content says."""

    def maker(file: Path) -> None:
        true = file.with_name(f"{file.name}{suffix}")
        make(true, **how)
        true.rename(file)

    return maker


def of(make: Callable[..., object], **how: Any) -> Maker:
    """``make`` with settings."""
    return lambda file: make(file, **how)


def content(data: bytes) -> Maker:
    """These bytes and nothing else."""
    return lambda file: file.write_bytes(data)


def still(file: Path, pixels: np.ndarray | None = None, share: float = 1.0) -> None:
    """A picture file, or the beginning of one."""
    image = picture() if pixels is None else pixels
    swapped = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    coded = cv2.imencode(file.suffix, np.ascontiguousarray(swapped))[1].tobytes()
    file.write_bytes(coded[: int(len(coded) * share)])


def turned_jpeg(file: Path) -> None:
    """A jpeg that lies on its side and says so in its EXIF entry."""
    coded = cv2.imencode(".jpg", np.rot90(picture())[..., ::-1])[1].tobytes()
    entry = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + entry
    file.write_bytes(coded[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + coded[2:])


def wave(
    file: Path,
    samples: np.ndarray | None = None,
    rate: int = 16000,
    subtype: str | None = None,
    kind: str | None = None,
) -> None:
    """A sound file of any kind that soundfile writes; by default 0.4 s."""
    written = sound(0.4, rate) if samples is None else samples
    soundfile.write(file, written, rate, subtype=subtype, format=kind)


def coded_sound(file: Path, codec: str, rate: int = 16000) -> None:
    """0.4 s of sound by one of FFmpeg's encoders."""
    with av.open(str(file), "w") as out:
        stream: Any = out.add_stream(codec, rate=rate, layout="mono")
        piece = av.AudioFrame.from_ndarray(sound(0.4, rate)[None], format="fltp", layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = rate, 0, Fraction(1, rate)
        fitting = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
        for frame in fitting.resample(piece):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def headless_wave(file: Path) -> None:
    """A wav file whose header promises more than there is."""
    save_waveform(file, sound(0.8))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
