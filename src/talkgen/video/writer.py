"""Write video through PyAV: H.264 with sound, complete or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from talkgen.errors import FileError
from talkgen.unfinished import unfinished_name
from talkgen.video.container import open_container, reason, sound_zero_seconds
from talkgen.video.content_credentials import sign, signing_wanted
from talkgen.video.watermark import Watermark

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYNTHETIC_COMMENT = "Synthetic video: the face or the speech was generated with talkgen."
"""What the metadata of every generated video says."""

OUTPUT_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
"""Containers that hold H.264 with AAC."""

# Formats that every usual player takes inside these containers, so that the packets are copied as they are.
_COPIED_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac"}

# As in the reader: swscale's fast path truncates, which darkens.
_EXACT_TO_YUV = int(Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP)

# x264's AVX-512 code reads memory that nobody wrote when a row is not a multiple of 8 macroblocks (128
# pixels), so that the same frames give other bytes from run to run, and at times 8 % more of them (measured
# with core 165 under MALLOC_PERTURB_; its macroblock tree is what goes wrong). Everything up to AVX2 gives
# the same bytes in every run, at 128, 256 and 512 pixels those of AVX-512, for 8 % more encoder time.
_UP_TO_AVX2 = "asm=MMX2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI1,BMI2,AVX2"
_CV_CPU_AVX512_SKX = 256  # OpenCV exports no name for it; the five extensions that x264 asks for as well


def _x264_options(crf: float, preset: str) -> dict[str, str]:
    """Options of the encoder. Its instructions are named only where it would choose AVX-512 by itself."""
    options = {"crf": str(crf), "preset": preset}
    if cv2.checkHardwareSupport(_CV_CPU_AVX512_SKX):
        options["x264-params"] = _UP_TO_AVX2
    return options


class VideoWriter:
    """Write H.264 with sound; the file appears under its name only when it is complete.

    Usage::

        with VideoWriter("out.mp4", fps=25, width=512, height=512, audio="speech.wav") as writer:
            for frame in frames:
                writer.write(frame)

    If the block is left by an exception, the unfinished file is removed and an older file of that name stays.
    The same frames give the same bytes in every run on a machine (the number of its cores changes them).

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
        synthetic: the video was generated: the ``comment`` tag then says so, whatever ``metadata`` holds, the
            frames bear an invisible watermark, and the file Content Credentials where the machine has a
            certificate (``content_credentials.py``).
        watermark: whether synthetic video bears the watermark. False is for pictures that networks learn
            from, which would learn the mark as well.

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
        watermark: bool = True,
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
        self._mark = Watermark(width, height) if synthetic and watermark else None
        self._signed = synthetic and signing_wanted(self.file)
        self._trim_audio = trim_audio
        self._closed = False
        self._packet: Any = None  # the next packet of sound, which waits for the picture of its time
        # The suffix stays the true one: FFmpeg chooses the container by it.
        self._temporary = unfinished_name(self.file, keep_suffix=True)
        self._stack = contextlib.ExitStack()
        try:
            self._open_output(crf, preset, metadata, synthetic)
            self._sound = self._open_sound(audio)
        except (av.error.FFmpegError, OSError) as error:
            self._discard()
            raise FileError(file, f"cannot be written ({reason(error)})") from error
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
        stream.options = _x264_options(crf, preset)
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
        source = self._stack.enter_context(open_container(audio))
        if not source.streams.audio:
            raise FileError(audio, "has no sound")
        stream = source.streams.audio[0]
        zero = sound_zero_seconds(source, stream)
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
                raise FileError(file, f"its sound is broken ({reason(error)})") from error

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
        if self._mark is not None:
            frame = self._mark(frame)
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
            if self._signed:
                self._sign()
            self._temporary.replace(self.file)

    def _sign(self) -> None:
        signed = self._temporary.with_name(f"{self._temporary.stem}.signed{self._temporary.suffix}")
        try:
            sign(self._temporary, signed, self.file.name)
            signed.replace(self._temporary)
        except BaseException:
            signed.unlink(missing_ok=True)
            self._discard()
            raise

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
                self.file, f"cannot be written ({reason(error)}); is the disk full or the folder read-only?"
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
        raise FileError(file, f"its sound is broken ({reason(error)})") from error
