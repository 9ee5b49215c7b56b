"""Videos and sounds made on the spot, whose frames say by their brightness which they are."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def numbered(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A grey picture whose brightness is its number: 3 levels a frame from 20, so up to 75 frames."""
    return np.full((height, width, 3), 20 + 3 * index, np.uint8)


def number_of(frame: np.ndarray) -> int:
    """The number of a decoded picture."""
    return round((float(frame.mean()) - 20) / 3)


def write_numbered(
    file: Path,
    seconds_of_frames: Sequence[float],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction = Fraction(25),
    clock: Fraction = Fraction(1, 90_000),
    rotation: int = 0,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """A video with frame i at the given time."""
    with av.open(str(file), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=codec_options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.bit_rate = 4_000_000
        if options:
            stream.options = options
        stream.codec_context.time_base = clock
        if rotation:
            stream.set_display_rotation(rotation)
        for index, seconds in enumerate(seconds_of_frames):
            frame = av.VideoFrame.from_ndarray(numbered(index, *size), format="rgb24").reformat(
                format=pixel_format
            )
            frame.pts, frame.time_base = round(seconds / clock), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def write_wav(file: Path, waveform: np.ndarray, rate: int = 16000) -> Path:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    return file
