"""Read video through PyAV: any container and codec in, RGB pictures out, one at a time."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
from av.video.reformatter import Interpolation

from talkgen.errors import FileError
from talkgen.video.container import open_container, reason, video_stream, zero_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Timestamps are rounded to a container's clock (WebM: 1 ms). A picture counts as shown this much before its
# stated time, else rounding alone would show the previous one.
_CLOCK_TOLERANCE_SECONDS = 0.002

# A picture that stays for longer has a broken timestamp. At a constant rate it would be repeated without end.
LONGEST_STILL_SECONDS = 1800.0

# swscale's fast path from YUV to RGB truncates, which darkens every picture by 1.3 of 255 levels on average
# (measured); with these flags the mean error is below 0.02 levels, at 0.9 instead of 0.1 ms for 512 × 512.
_EXACT_TO_RGB = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
_EXACT_STRETCHED = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself. Nothing is decoded beyond the first picture.

    Attributes:
        width, height: of the pictures as ``read_frames`` gives them (pixels made square, rotation applied).
        fps: average frames a second.
        frames: number of pictures as the container states it, else ``round(seconds * fps)``.
        seconds: length of the video stream (the container's length where the stream states none).
        rotation: degrees counter-clockwise by which a player turns the pictures: 0, 90, 180 or 270.
        codec: name of the video codec, e.g. ``"h264"``.
        pixel_format: e.g. ``"yuv420p"``.
        has_audio: whether there is a sound stream.
        audio_codec: its codec, or None.
        audio_rate: its samples a second, or None.
    """

    width: int
    height: int
    fps: float
    frames: int
    seconds: float
    rotation: int
    codec: str
    pixel_format: str
    has_audio: bool
    audio_codec: str | None
    audio_rate: int | None


@dataclass(frozen=True)
class _Picture:
    """A decoded frame and the width of its pixels over their height."""

    frame: Any
    pixel_aspect: Fraction

    def size(self) -> tuple[int, int]:
        """Width and height with square pixels, before rotation; never smaller than what is stored."""
        width, height, aspect = self.frame.width, self.frame.height, self.pixel_aspect
        return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))

    def rgb(self) -> NDArray[np.uint8]:
        """uint8 (height, width, 3) as a player shows it."""
        stretch = {}
        if self.pixel_aspect != 1:
            stretch["width"], stretch["height"] = self.size()
        picture: NDArray[np.uint8] = self.frame.to_ndarray(
            format="rgb24", interpolation=_EXACT_STRETCHED if stretch else _EXACT_TO_RGB, **stretch
        )
        turns = (self.frame.rotation % 360) // 90
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _pixel_aspect(stream: Any) -> Fraction:
    """Width over height of a stored pixel; television formats and DVDs have 8:9 to 2:1.

    Up to 1 % from square counts as square, because resampling would cost more sharpness than it mends, and
    what nobody ever broadcast is a broken header.
    """
    stated = Fraction(stream.sample_aspect_ratio or 1)
    return stated if abs(stated - 1) > 0.01 and Fraction(1, 4) <= stated <= 4 else Fraction(1)


def _fps(stream: Any) -> Fraction:
    return Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)


def probe(file: str | Path) -> VideoInfo:
    """Size, rate, length and codecs of a video file.

    Raises:
        FileError: if the file is missing, empty, broken, or has no moving pictures.
    """
    with open_container(file) as container:
        stream = video_stream(container, file)
        try:
            first = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise FileError(file, f"the first picture cannot be decoded ({reason(error)})") from error
        if first is None:
            raise FileError(file, "holds no picture that can be decoded; the file is cut off or broken")
        fps = _fps(stream)
        seconds = _stated_end(container, stream)
        if seconds is None and container.duration:
            seconds = float(container.duration / av.time_base) - _before_zero(container, stream)
        frames = stream.frames or (round(seconds * fps) if seconds else 1)
        rotation = first.rotation % 360
        across, down = _Picture(first, _pixel_aspect(stream)).size()
        turned = rotation in (90, 270)
        # a stream of a codec that FFmpeg does not know has no context, and cannot be heard
        audio = next((heard for heard in container.streams.audio if heard.codec_context is not None), None)
        return VideoInfo(
            width=down if turned else across,
            height=across if turned else down,
            fps=float(fps),
            frames=frames,
            seconds=seconds if seconds else float(frames / fps),
            rotation=rotation,
            codec=stream.codec_context.name,
            pixel_format=first.format.name,
            has_audio=audio is not None,
            audio_codec=audio.codec_context.name if audio else None,
            audio_rate=audio.codec_context.sample_rate if audio else None,
        )


def read_frames(
    file: str | Path,
    fps: float | None = None,
    start_seconds: float = 0.0,
    seconds: float | None = None,
    on_error: Literal["raise", "stop"] = "raise",
) -> Iterator[NDArray[np.uint8]]:
    """Decode a video one picture at a time, at constant memory.

    Args:
        file: any container and codec that FFmpeg reads (also a still picture: one frame).
        fps: ``None`` gives every picture of the file. A number gives frame *i* = what a player shows at
            ``start_seconds + i / fps``, whatever the rate of the file, constant or variable.
        start_seconds: where to begin; reached by seeking to the key frame before it.
        seconds: how much to read; ``None`` reads to the end.
        on_error: what to do where the stream is broken or ends before its stated length: ``"raise"`` gives
            all frames up to there and then a ``FileError``; ``"stop"`` gives them and warns.

    Yields:
        uint8 RGB (height, width, 3), rotation applied. Pixels that are not square are made so.

    Raises:
        FileError: for files that are no video, and for broken streams, naming the place in seconds.
    """
    if fps is not None and fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    if start_seconds < 0 or (seconds is not None and seconds < 0):
        raise ValueError("start_seconds and seconds must not be negative")
    if on_error not in ("raise", "stop"):
        raise ValueError(f"on_error is 'raise' or 'stop', got {on_error!r}")
    return _read_frames(file, fps, start_seconds, seconds, on_error)


def _read_frames(
    file: str | Path, fps: float | None, start: float, seconds: float | None, on_error: str
) -> Iterator[NDArray[np.uint8]]:
    end = float("inf") if seconds is None else start + seconds
    if fps is None:
        for time, _, picture in _shown(file, start, on_error):
            if time >= end - _CLOCK_TOLERANCE_SECONDS:
                return
            if time >= start - _CLOCK_TOLERANCE_SECONDS:
                yield picture.rgb()
        return

    limit = float("inf") if seconds is None else round(seconds * fps)
    index = 0
    if limit == 0:
        return
    for _, until, picture in _shown(file, start, on_error):
        shown = None
        while start + index / fps < until - _CLOCK_TOLERANCE_SECONDS:
            # One conversion for a picture that stays for several frames; each frame is its own array.
            shown = picture.rgb() if shown is None else shown.copy()
            yield shown
            index += 1
            if index >= limit:
                return


def _shown(file: str | Path, start: float, on_error: str) -> Iterator[tuple[float, float, _Picture]]:
    """Pictures in order, each with the seconds at which it comes to the screen and leaves it.

    Begins at or before the picture that is on the screen at ``start``.
    """
    period = 0.0
    before: tuple[float, _Picture] | None = None
    broken: FileError | None = None
    try:
        for time, picture, period in _decoded(file, start):  # noqa: B007 (the last one's is used below)
            if before is not None:
                yield before[0], time, before[1]
            before = (time, picture)
    except FileError as error:
        if before is None or on_error == "raise":
            broken = error
        else:
            warnings.warn(str(error), stacklevel=4)
    if before is not None:
        time, picture = before
        frame = picture.frame
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else period
        yield time, time + (lasts if lasts <= LONGEST_STILL_SECONDS else period), picture
    if broken is not None:
        raise broken


def _decoded(file: str | Path, start: float) -> Iterator[tuple[float, _Picture, float]]:
    """(seconds since time zero, picture, usual seconds a frame) from the key frame before ``start`` on.

    Raises ``FileError`` after the last frame where the stream is broken or shorter than it states.
    """
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_container(file))
        stream = video_stream(container, file)
        zero, period = zero_seconds(container, stream), float(1 / _fps(stream))
        if start > 0:
            try:
                container.seek(int((zero + start) / stream.time_base), stream=stream)
                first = next(container.decode(stream), None)
            except av.error.FFmpegError:
                first = None
            stamp = None if first is None else first.pts
            found = (
                stamp is not None
                and float(stamp * stream.time_base) - zero <= start + _CLOCK_TOLERANCE_SECONDS
            )
            # Some indexes are wrong or absent, so that seeking lands behind the place: then read from the
            # beginning. Otherwise seek once more, as the first frame is consumed.
            if found:
                container.seek(int((zero + start) / stream.time_base), stream=stream)
            else:
                container = stack.enter_context(open_container(file))
                stream = video_stream(container, file)
        if period > LONGEST_STILL_SECONDS:
            raise FileError(
                file, f"states a picture every {period:.0f} s: its header is broken; re-encode it"
            )
        aspect = _pixel_aspect(stream)
        time = -period
        count = 0
        try:
            for frame in container.decode(stream):
                stamp = frame.pts if frame.pts is not None else frame.dts
                before = time if count else start
                time = time + period if stamp is None else float(stamp * stream.time_base) - zero
                if time - before > LONGEST_STILL_SECONDS:
                    raise FileError(
                        file,
                        f"jumps from {before:.2f} s to {time:.2f} s: its timestamps are broken; re-encode it",
                    )
                yield time, _Picture(frame, aspect), period
                count += 1
        except av.error.FFmpegError as error:
            place = f"after {max(0.0, time + period):.2f} s" + (f" (frame {count})" if start == 0 else "")
            raise FileError(
                file, f"is broken {place}: {reason(error)}; re-encode or copy it again"
            ) from error
        stated = _stated_end(container, stream)
        if count == 0 and start == 0:
            raise FileError(file, "holds no picture that can be decoded; the file is cut off or broken")
        if count and stated is not None and time + period < stated - max(0.5, 5 * period):
            raise FileError(
                file,
                f"ends after {time + period:.2f} s although it states {stated:.2f} s: it is cut off; "
                "copy or download it again",
            )


def _stated_end(container: Any, stream: Any) -> float | None:
    """Length that the file promises for its pictures, where it makes a promise of its own about them."""
    if stream.duration is not None:
        # AVI shortens the length to the size of the file, but keeps the number of frames in its header.
        return max(float(stream.duration * stream.time_base), float(stream.frames / _fps(stream)))
    tag = stream.metadata.get("DURATION")  # Matroska: "00:00:04.920000000"
    if tag is not None and tag.count(":") == 2:
        hours, minutes, rest = tag.split(":")
        with contextlib.suppress(ValueError):  # a damaged tag promises nothing
            end = int(hours) * 3600 + int(minutes) * 60 + float(rest)
            return end - _before_zero(container, stream)
    if container.duration and not container.streams.audio:
        return float(container.duration / av.time_base) - _before_zero(container, stream)
    return None


def _before_zero(container: Any, stream: Any) -> float:
    """Seconds that Matroska counts in its lengths although nothing is shown then; others leave them out."""
    return max(0.0, zero_seconds(container, stream)) if "matroska" in container.format.name else 0.0
