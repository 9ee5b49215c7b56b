"""What the LSE pipeline's calls of ffmpeg and OpenCV do to pictures and sound, step by step, without ffmpeg.

Three quarters of what SyncNet sees is decided here: the pictures pass four lossy encoders, the sound one, and
the last of them (JPEG at ffmpeg's default bit rate) leaves about 31 dB. Scores without these steps are higher
and do not compare with published ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

FPS = 25
_QUALITY_2 = {"qmin": "2", "qmax": "2"}  # quantiser 2 for every frame, as -qscale:v 2 has it


def write_avi(
    file: Path, frames: Sequence[NDArray[np.uint8]], sound: NDArray[np.int16], sample_rate: int
) -> None:
    """``ffmpeg -i … -qscale:v 2 -r 25 video.avi``: MPEG-4 pictures, and MP3 sound, AVI's default.

    Args:
        file: to be written.
        frames: uint8 RGB (h, w, 3) at 25 fps.
        sound: mono.
        sample_rate: of the sound; MP3 keeps it.
    """
    with av.open(str(file), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS, options=_QUALITY_2)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("libmp3lame", rate=sample_rate)
        audio.layout = "mono"
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        samples.sample_rate, samples.pts = sample_rate, 0
        container.mux(audio.encode(samples))
        container.mux(audio.encode())


def read_pictures(file: Path) -> Iterator[av.VideoFrame]:
    """The frames of a video as ffmpeg hands them to ``-f image2``: at a constant rate, gaps filled.

    The encoder of MP3 puts 1105 samples before the sound; the AVI has as many empty frames in front, and the
    first picture is therefore repeated.
    """
    last: av.VideoFrame | None = None
    place = 0
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            due = place if frame.pts is None else frame.pts
            while last is not None and place < due:
                yield last
                place += 1
            yield frame
            last, place = frame, place + 1


def read_sound(file: Path) -> NDArray[np.int16]:
    """``ffmpeg -i … -ac 1 -ar 16000 -acodec pcm_s16le``: int16 (samples,)."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
    with av.open(str(file)) as container:
        frames = [*container.decode(audio=0), None]
        parts = [part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)]
    return np.concatenate(parts)


def through_jpeg(frames: Iterable[av.VideoFrame], constant_quality: bool) -> Iterator[NDArray[np.uint8]]:
    """``ffmpeg -i … -f image2 %06d.jpg``, then ``cv2.imread``: → uint8 RGB (h, w, 3).

    Args:
        frames: decoded frames.
        constant_quality: ``-qscale:v 2``; else ffmpeg's default rate control, 200 kbit/s whatever the size.
    """
    encoder: Any = None
    for frame in frames:
        if encoder is None:
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height = frame.width, frame.height
            encoder.pix_fmt = "yuvj420p"
            encoder.framerate = FPS
            encoder.options = _QUALITY_2 if constant_quality else {}
        full_range = frame.reformat(format="yuvj420p")
        full_range.pts = None
        for packet in encoder.encode(full_range):
            yield _decoded(packet)
    if encoder is not None:
        for packet in encoder.encode():
            yield _decoded(packet)


def _decoded(packet: Any) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(bytes(packet), np.uint8), cv2.IMREAD_COLOR)
    rgb: NDArray[np.uint8] = picture[..., ::-1]  # type: ignore[index,assignment]
    return rgb


def write_xvid(file: Path, crops: Iterable[NDArray[np.uint8]], size: int) -> None:
    """OpenCV's writer with the code XVID: uint8 RGB (size, size, 3) at 25 fps."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"XVID"), FPS, (size, size))
    try:
        for crop in crops:
            writer.write(np.ascontiguousarray(crop[..., ::-1]))
    finally:
        writer.release()


def published_input(
    frames: Sequence[NDArray[np.uint8]], sound: NDArray[np.int16], sample_rate: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.int16]]:
    """First half of the pipeline: what its face detector and its cutting see, and the sound at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.avi"
        write_avi(file, frames, sound, sample_rate)
        return list(through_jpeg(read_pictures(file), constant_quality=True)), read_sound(file)


def published_crops(crops: Iterable[NDArray[np.uint8]], size: int) -> list[NDArray[np.uint8]]:
    """Second half: what SyncNet sees of the cut faces (size, size, 3), after XVID and JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crops.avi"
        write_xvid(file, crops, size)
        return list(through_jpeg(read_pictures(file), constant_quality=False))


def default_jpeg(frames: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """All that the scripts for LRS do: the frames of a video as JPEGs at ffmpeg's default rate."""
    decoded = (
        av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(format="yuv420p")
        for frame in frames
    )
    return list(through_jpeg(decoded, constant_quality=False))
