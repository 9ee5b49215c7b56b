"""Read and write video through PyAV: any container and codec in, H.264 out.

Time zero of a file is the moment at which a player starts it: the earlier of its first picture and its first
sound (negative timestamps are codec priming, which nobody hears, and do not count).
"""

from __future__ import annotations

import contextlib
import secrets
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from talkgen.errors import FileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYNTHETIC_COMMENT = "Synthetic video: the face or the speech was generated with talkgen."
"""What the metadata of every generated video says."""

OUTPUT_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers that hold H.264 with AAC."""

# Formats that every usual player takes inside these containers, so that the packets are copied as they are.
_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac"}

# Timestamps are rounded to a container's clock (WebM: 1 ms). A picture counts as shown this much before its
# stated time, else rounding alone would show the previous one.
_CLOCK_TOLERANCE_SECONDS = 0.002

# swscale's fast path from YUV to RGB truncates, which darkens every picture by 1.3 of 255 levels on average
# (measured); with these flags the mean error is below 0.02 levels, at 0.9 instead of 0.1 ms for 512 × 512.
_EXACT_TO_RGB = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
_EXACT_TO_YUV = int(Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP)

# FFmpeg turns text into pictures of text; a transcript handed over by mistake is no video.
_TEXT_FORMATS = {"tty"}


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself. Nothing is decoded beyond the first picture.

    Attributes:
        width, height: of the pictures as ``read_frames`` gives them (rotation applied), in pixels.
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


def _open(file: str | Path) -> Any:
    """The opened container, or a ``FileError`` that says why it is none."""
    path = Path(file)
    if path.is_dir():
        raise FileError(file, "is a folder; name a video file in it")
    if not path.is_file():
        raise FileError(file, "does not exist")
    if path.stat().st_size == 0:
        raise FileError(file, "is empty (0 bytes); copy or download it again")
    try:
        container = av.open(str(path), mode="r")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FileError(file, f"cannot be opened as video ({_reason(error)})") from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise FileError(file, "is a text file, not a video")
    return container


def _reason(error: BaseException) -> str:
    """FFmpeg's own words without the file name and number that PyAV puts around them."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _video_stream(container: Any, file: str | Path) -> Any:
    """The first stream of moving pictures; the cover image of a music file is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    kind = "only sound" if container.streams.audio else "no pictures"
    raise FileError(file, f"holds {kind}; a video is needed here")


def _zero_seconds(container: Any, stream: Any) -> float:
    """Timestamp of the moment at which a player starts."""
    starts = [float(stream.start_time * stream.time_base)] if stream.start_time is not None else []
    for audio in container.streams.audio:
        if audio.start_time is not None:
            starts.append(max(0.0, float(audio.start_time * audio.time_base)))
    return min(starts, default=0.0)


def _sound_zero_seconds(container: Any, sound: Any) -> float:
    """The same for a file that is read for its sound; a music file begins where its codec's priming ends."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return _zero_seconds(container, stream)
    return max(0.0, float(sound.start_time * sound.time_base)) if sound.start_time is not None else 0.0


def _fps(stream: Any) -> Fraction:
    return Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)


def probe(file: str | Path) -> VideoInfo:
    """Size, rate, length and codecs of a video file.

    Raises:
        FileError: if the file is missing, empty, broken, or has no moving pictures.
    """
    with _open(file) as container:
        stream = _video_stream(container, file)
        try:
            first = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise FileError(file, f"the first picture cannot be decoded ({_reason(error)})") from error
        if first is None:
            raise FileError(file, "holds no picture that can be decoded; the file is cut off or broken")
        fps = _fps(stream)
        seconds = _stated_end(container, stream)
        if seconds is None and container.duration:
            seconds = float(container.duration / av.time_base)
        frames = stream.frames or (round(seconds * fps) if seconds else 1)
        rotation = first.rotation % 360
        turned = rotation in (90, 270)
        audio = container.streams.audio[0] if container.streams.audio else None
        return VideoInfo(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
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
        uint8 RGB (height, width, 3), rotation applied. Non-square pixels are not stretched.

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
        for time, _, frame in _shown(file, start, on_error):
            if time >= end - _CLOCK_TOLERANCE_SECONDS:
                return
            if time >= start - _CLOCK_TOLERANCE_SECONDS:
                yield _to_rgb(frame)
        return

    limit = float("inf") if seconds is None else round(seconds * fps)
    index = 0
    if limit == 0:
        return
    for _, until, frame in _shown(file, start, on_error):
        picture = None
        while start + index / fps < until - _CLOCK_TOLERANCE_SECONDS:
            # One conversion for a picture that stays for several frames; each frame is its own array.
            picture = _to_rgb(frame) if picture is None else picture.copy()
            yield picture
            index += 1
            if index >= limit:
                return


def _shown(file: str | Path, start: float, on_error: str) -> Iterator[tuple[float, float, Any]]:
    """Pictures in order, each with the seconds at which it comes to the screen and leaves it.

    Begins at or before the picture that is on the screen at ``start``.
    """
    period = 0.0
    before: tuple[float, Any] | None = None
    broken: FileError | None = None
    try:
        for time, frame, period in _decoded(file, start):  # noqa: B007 (the last one's is used below)
            if before is not None:
                yield before[0], time, before[1]
            before = (time, frame)
    except FileError as error:
        if before is None or on_error == "raise":
            broken = error
        else:
            warnings.warn(str(error), stacklevel=4)
    if before is not None:
        time, frame = before
        lasts = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else period
        yield time, time + lasts, frame
    if broken is not None:
        raise broken


def _decoded(file: str | Path, start: float) -> Iterator[tuple[float, Any, float]]:
    """(seconds since time zero, frame, usual seconds a frame) from the key frame before ``start`` to the end.

    Raises ``FileError`` after the last frame where the stream is broken or shorter than it states.
    """
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(_open(file))
        stream = _video_stream(container, file)
        zero, period = _zero_seconds(container, stream), float(1 / _fps(stream))
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
                container = stack.enter_context(_open(file))
                stream = _video_stream(container, file)
        time = -period
        count = 0
        try:
            for frame in container.decode(stream):
                stamp = frame.pts if frame.pts is not None else frame.dts
                time = time + period if stamp is None else float(stamp * stream.time_base) - zero
                yield time, frame, period
                count += 1
        except av.error.FFmpegError as error:
            place = f"after {max(0.0, time + period):.2f} s" + (f" (frame {count})" if start == 0 else "")
            raise FileError(
                file, f"is broken {place}: {_reason(error)}; re-encode or copy it again"
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
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)
    if container.duration and not container.streams.audio:
        return float(container.duration / av.time_base)
    return None


def _to_rgb(frame: Any) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", interpolation=_EXACT_TO_RGB)
    turns = (frame.rotation % 360) // 90
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


class VideoWriter:
    """Write H.264 with sound; the file appears under its name only when it is complete.

    Usage::

        with VideoWriter("out.mp4", fps=25, width=512, height=512, audio="speech.wav") as writer:
            for frame in frames:
                writer.write(frame)

    If the block is left by an exception, the unfinished file is removed and an older file of that name stays.

    Args:
        file: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        fps: frames a second, constant.
        width, height: of the frames. An odd number is padded by repeating the last column or row, because
            yuv420p stores one colour for every 2 × 2 pixels.
        crf: H.264 quality, 0 (lossless) to 51; 18 is visually transparent.
        preset: x264's speed, ``"ultrafast"`` to ``"veryslow"``.
        audio: an audio or video file whose first sound stream is muxed (packets are copied without
            re-encoding where the container takes the codec, else AAC), or a pair (waveform float in [-1, 1]
            of shape (samples,) or (samples, channels), sample rate), which becomes AAC.
        trim_audio: end the sound with the last frame; else the whole sound is written.
        metadata: tags such as ``{"title": "..."}``.
        synthetic: the video was generated: the ``comment`` tag then says so, whatever ``metadata`` holds.

    Raises:
        FileError: for a suffix that cannot hold H.264, an audio file without sound, a full disk, or a
            video without frames.
    """

    def __init__(
        self,
        file: str | Path,
        fps: float,
        width: int,
        height: int,
        crf: float = 18,
        audio: str | Path | tuple[NDArray[Any], int] | None = None,
        metadata: Mapping[str, str] | None = None,
        synthetic: bool = False,
        preset: str = "medium",
        trim_audio: bool = True,
    ) -> None:
        if fps <= 0 or width <= 0 or height <= 0:
            raise ValueError(f"fps, width and height must be positive, got {fps}, {width}, {height}")
        self.file = Path(file)
        if self.file.suffix.lower() not in OUTPUT_SUFFIXES:
            raise FileError(file, f"cannot hold H.264 video; name it {', '.join(OUTPUT_SUFFIXES)}")
        if not self.file.parent.is_dir():
            raise FileError(file, f"cannot be written: the folder {self.file.parent} does not exist")
        self.fps = Fraction(fps).limit_denominator(1001)
        self.width, self.height = width, height
        self.frames = 0
        self._trim_audio = trim_audio
        self._closed = False
        self._packet: Any = None  # the next packet of sound, which waits for the picture of its time
        # The suffix stays the true one: FFmpeg chooses the container by it.
        self._temporary = self.file.with_name(
            f".{self.file.stem}.{secrets.token_hex(4)}.partial{self.file.suffix}"
        )
        self._stack = contextlib.ExitStack()
        try:
            self._open_output(crf, preset, metadata, synthetic)
            self._sound = self._open_sound(audio)
        except (av.error.FFmpegError, OSError) as error:
            self._discard()
            raise FileError(file, f"cannot be written ({_reason(error)})") from error
        except BaseException:
            self._discard()
            raise

    def _open_output(
        self, crf: float, preset: str, metadata: Mapping[str, str] | None, synthetic: bool
    ) -> None:
        # faststart puts the index first, so that a browser plays the file while it loads.
        options = {} if self.file.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self._container = self._stack.enter_context(av.open(str(self._temporary), mode="w", options=options))
        tags = dict(metadata or {})
        if synthetic:
            said = tags.get("comment")
            tags["comment"] = SYNTHETIC_COMMENT if not said else f"{SYNTHETIC_COMMENT} {said}"
        self._container.metadata.update(tags)
        stream: Any = self._container.add_stream("libx264", rate=self.fps)
        stream.width = self.width + self.width % 2
        stream.height = self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": preset}
        stream.time_base = 1 / self.fps
        # Without tags players guess the matrix by size (BT.601 small, BT.709 large) and colours shift.
        context = stream.codec_context
        context.colorspace = int(Colorspace.ITU709)
        context.color_primaries = int(ColorPrimaries.BT709)
        context.color_trc = int(ColorTrc.BT709)
        context.color_range = int(ColorRange.MPEG)
        self._stream = stream

    def _open_sound(self, audio: str | Path | tuple[NDArray[Any], int] | None) -> Iterator[Any] | None:
        """Packets of the sound in order, made as they are asked for."""
        if audio is None:
            return None
        if isinstance(audio, tuple):
            waveform, rate = np.asarray(audio[0]), audio[1]
            channels = 1 if waveform.ndim == 1 else waveform.shape[-1]
            if waveform.ndim > 2 or channels > 2:
                raise ValueError(f"waveform is (samples,) or (samples, 1 or 2), got {waveform.shape}")
            return self._encoded(_waveform_frames(waveform, rate, channels), rate, channels)
        source = self._stack.enter_context(_open(audio))
        if not source.streams.audio:
            raise FileError(audio, "has no sound")
        stream = source.streams.audio[0]
        zero = _sound_zero_seconds(source, stream)
        name = stream.codec_context.name.removesuffix("float")  # FFmpeg calls its MP3 decoder mp3float
        if name in _COPIED_AUDIO and name in self._container.supported_codecs:
            return self._copied(source, stream, zero, audio)
        return self._encoded(
            _file_frames(source, stream, zero, audio),
            stream.codec_context.sample_rate,
            stream.codec_context.channels,
        )

    def _copied(self, source: Any, stream: Any, zero: float, file: str | Path) -> Iterator[Any]:
        target = self._container.add_stream_from_template(stream)
        shift = round(zero / stream.time_base)
        # MP4 hides what lies before zero (the codec's priming) by an edit list; Matroska would shift all.
        keeps_priming = self.file.suffix.lower() != ".mkv"

        def packets() -> Iterator[Any]:
            try:
                for packet in source.demux(stream):
                    if packet.dts is None:  # the empty packet that ends a stream
                        continue
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    if packet.pts < 0 and not keeps_priming:
                        continue
                    packet.stream = target
                    yield packet
            except av.error.FFmpegError as error:
                raise FileError(file, f"its sound is broken ({_reason(error)})") from error

        return packets()

    def _encoded(self, frames: Iterator[Any], rate: int, channels: int) -> Iterator[Any]:
        target: Any = self._container.add_stream(
            "aac", rate=_aac_rate(rate), layout="mono" if channels == 1 else "stereo"
        )
        target.bit_rate = 96_000 if channels == 1 else 160_000

        def packets() -> Iterator[Any]:
            for frame in frames:
                yield from target.encode(frame)
            yield from target.encode(None)

        return packets()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame, uint8 RGB (height, width, 3)."""
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"frame must be uint8 ({self.height}, {self.width}, 3), got {frame.dtype} {frame.shape}"
            )
        if self._closed:
            raise ValueError(f"{self.file} is already closed")
        if self.width % 2 or self.height % 2:
            frame = np.pad(frame, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_EXACT_TO_YUV,
        )
        picture.pts = self.frames
        picture.time_base = 1 / self.fps
        with self._failing_cleanly():
            self._container.mux(self._stream.encode(picture))
            self.frames += 1
            self._mux_sound(until_seconds=float(self.frames / self.fps))

    def close(self) -> None:
        """Finish the file and give it its name. Does nothing the second time."""
        if self._closed:
            return
        if self.frames == 0:
            self._discard()
            raise FileError(self.file, "no frame was written to it")
        with self._failing_cleanly():
            self._container.mux(self._stream.encode(None))
            self._mux_sound(float(self.frames / self.fps) if self._trim_audio else float("inf"))
            self._closed = True
            self._stack.close()
            self._temporary.replace(self.file)

    def _mux_sound(self, until_seconds: float) -> None:
        """Write the sound that begins before ``until_seconds``, so that both streams lie interleaved."""
        while self._sound is not None:
            if self._packet is None:
                self._packet = next(self._sound, None)
            if self._packet is None:
                self._sound = None
            elif float(self._packet.pts * self._packet.time_base) < until_seconds:
                self._container.mux(self._packet)
                self._packet = None
            else:
                return

    @contextlib.contextmanager
    def _failing_cleanly(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            self._discard()
            raise FileError(
                self.file, f"cannot be written ({_reason(error)}); is the disk full or the folder read-only?"
            ) from error

    def _discard(self) -> None:
        self._closed = True
        # A container that could not write its frames cannot write its end either; the first error counts.
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self._stack.close()
        self._temporary.unlink(missing_ok=True)


def _aac_rate(rate: int) -> int:
    """The smallest rate of AAC that holds the sound, so that resampling loses nothing."""
    rates = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
    return next((known for known in rates if known >= rate), rates[-1])


def _waveform_frames(waveform: NDArray[Any], rate: int, channels: int) -> Iterator[Any]:
    samples = np.ascontiguousarray(waveform.reshape(-1, channels).T, dtype=np.float32)
    for start in range(0, samples.shape[1], rate):
        piece = np.ascontiguousarray(samples[:, start : start + rate])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono" if channels == 1 else "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def _file_frames(source: Any, stream: Any, zero: float, file: str | Path) -> Iterator[Any]:
    try:
        for frame in source.decode(stream):
            if frame.pts is not None:
                frame.pts = frame.pts - round(zero / frame.time_base)
            yield frame
    except av.error.FFmpegError as error:
        raise FileError(file, f"its sound is broken ({_reason(error)})") from error
