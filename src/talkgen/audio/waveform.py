"""Reading, writing and resampling of waveforms: mono float32 in [-1, 1].

Audio files are read with soundfile; video containers, and whatever soundfile does not know, with PyAV. A
piece of a long file is read without decoding the rest.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import soundfile
from av.stream import Disposition
from numpy.typing import NDArray

from talkgen.errors import FileError

SAMPLE_RATE = 16000
"""Samples a second of every waveform in talkgen unless the name says otherwise."""

# The resampler looks this far to both sides, so a piece is read with this much more around it and trimmed
# afterwards.
_MARGIN_SECONDS = 0.1
# Timestamps of containers are rounded (Matroska: to 1 ms); only larger steps are real gaps or overlaps of the
# sound.
_GAP_SECONDS = 0.02
# What is outside is a broken header; a rate of 1 would become 16,000 times as many samples.
_RATES = (1000, 1_000_000)
# Sound that is silent for longer between two packets has a broken timestamp.
_LONGEST_GAP_SECONDS = 1800.0
# Codecs with memory (AAC, MP3, Opus) need a few packets before the wanted place to give the same samples.
_PREROLL_SECONDS = 0.5
_READ_FRAMES = 1 << 22  # of a sound file at once
_NO_SOUND = np.zeros(0, np.float32)


def load_waveform(
    file: str | Path,
    sample_rate: int = SAMPLE_RATE,
    start_seconds: float = 0.0,
    seconds: float | None = None,
) -> NDArray[np.float32]:
    """Read an audio file, or the sound of a video, as one channel.

    Several channels are averaged. Second 0 is where a player starts: at the earlier of first picture and
    first sound. Stretches without sound are silent, so that in a video frame *i* at ``fps`` belongs to sample
    ``i / fps × sample_rate`` whatever the timestamps.

    Args:
        file: any format that soundfile or FFmpeg reads.
        sample_rate: samples a second of the result.
        start_seconds: where the piece begins.
        seconds: how long the piece is; less comes back where the file ends before. None reads to the end.

    Returns:
        float32 ``(samples,)`` in [-1, 1].

    Raises:
        FileError: the file is missing or damaged, has no sound, or ends before ``start_seconds``.
    """
    if start_seconds < 0 or (seconds is not None and seconds <= 0):
        raise ValueError(f"a piece of {seconds} s from {start_seconds} s cannot be read")
    path = Path(file)
    if not path.is_file():
        raise FileError(file, "there is no such file; check the path")
    if path.stat().st_size == 0:
        raise FileError(file, "the file is empty; fetch it again")
    try:
        waveform, source_rate, skipped = _read_soundfile(path, sample_rate, start_seconds, seconds)
    except soundfile.LibsndfileError:
        waveform, source_rate, skipped = _read_container(path, sample_rate, start_seconds, seconds)
    waveform = resample(waveform, source_rate, sample_rate)
    first = round(start_seconds * sample_rate) - skipped
    stop = None if seconds is None else first + round(seconds * sample_rate)
    piece = waveform[first:stop]
    if piece.size == 0:
        if start_seconds > 0:
            raise FileError(file, f"its sound ends before second {start_seconds:g}")
        raise FileError(file, "it holds no sound samples")
    if not np.isfinite(piece).all():
        raise FileError(file, "its sound holds numbers that are not finite; export it anew")
    return np.ascontiguousarray(piece)


def _refuse_rate(file: Path, rate: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise FileError(file, f"states {rate} samples a second, which no sound has; its header is damaged")


def save_waveform(file: str | Path, waveform: NDArray[np.floating], sample_rate: int = SAMPLE_RATE) -> None:
    """Write one channel as a 16-bit WAV file; the file appears whole or not at all.

    Args:
        file: where to write; an existing file is replaced.
        waveform: float ``(samples,)``; values outside [-1, 1] are clipped.
        sample_rate: samples a second.
    """
    path = Path(file)
    samples = to_int16(waveform)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".wav")
    os.close(handle)
    try:
        soundfile.write(temporary, samples, sample_rate, subtype="PCM_16", format="WAV")
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)  # mkstemp's files are private; a result is an ordinary file
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def to_int16(waveform: NDArray[np.floating]) -> NDArray[np.int16]:
    """Turn float ``(samples,)`` in [-1, 1] into 16-bit samples: the inverse of dividing by 32768."""
    waveform = require_mono(waveform)
    if not np.isfinite(waveform).all():
        raise ValueError("the waveform holds values that are not finite")
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)


def require_mono(waveform: NDArray[np.floating]) -> NDArray[np.floating]:
    """The waveform itself if it is float ``(samples,)``.

    Raises:
        ValueError: it has another shape or type.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"expected float (samples,), got {waveform.dtype} {waveform.shape}")
    return waveform


def resample(waveform: NDArray[np.floating], source_rate: int, target_rate: int) -> NDArray[np.float32]:
    """Change the sample rate with the soxr resampler (librosa's default quality, ``soxr_hq``).

    Args:
        waveform: ``(samples,)``.
        source_rate: its samples a second.
        target_rate: samples a second of the result.

    Returns:
        float32 ``(ceil(samples × target_rate / source_rate),)``, without delay.
    """
    if source_rate == target_rate or waveform.size == 0:
        return waveform.astype(np.float32, copy=False)
    import librosa

    return librosa.resample(
        waveform.astype(np.float32, copy=False),
        orig_sr=source_rate,
        target_sr=target_rate,
        res_type="soxr_hq",
    )


def _source_span(
    source_rate: int, sample_rate: int, start_seconds: float, seconds: float | None
) -> tuple[int, int | None, int]:
    """Samples to read for a piece, with a margin for the resampler.

    The first one lies on the grid that both rates share (10 ms for 44.1 kHz → 16 kHz), so that resampling the
    piece and cutting the resampled whole give the same samples. Returns (first, stop or None, target samples
    before first).
    """
    common = math.gcd(source_rate, sample_rate)
    grid = source_rate // common
    first = max(0, math.floor((start_seconds - _MARGIN_SECONDS) * source_rate / grid)) * grid
    stop = None if seconds is None else math.ceil((start_seconds + seconds + _MARGIN_SECONDS) * source_rate)
    return first, stop, first // grid * (sample_rate // common)


def _read_soundfile(
    path: Path, sample_rate: int, start_seconds: float, seconds: float | None
) -> tuple[NDArray[np.float32], int, int]:
    """Samples of a piece at the file's own rate, that rate, and how many target samples lie before them."""
    with soundfile.SoundFile(path) as sound:
        source_rate = sound.samplerate
        _refuse_rate(path, source_rate)
        first, stop, skipped = _source_span(source_rate, sample_rate, start_seconds, seconds)
        if first >= sound.frames:
            return _NO_SOUND, source_rate, skipped
        sound.seek(first)
        pieces: list[NDArray[np.float32]] = []
        left = (sound.frames if stop is None else min(stop, sound.frames)) - first
        while left > 0:  # a damaged header promises what is not there: memory for it is taken as it comes
            samples = sound.read(min(left, _READ_FRAMES), dtype="float32", always_2d=True)
            if not len(samples):
                break
            mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
            pieces.append(mono)
            left -= len(samples)
    return pieces[0] if len(pieces) == 1 else np.concatenate([_NO_SOUND, *pieces]), source_rate, skipped


def _read_container(
    path: Path, sample_rate: int, start_seconds: float, seconds: float | None
) -> tuple[NDArray[np.float32], int, int]:
    """The same as :func:`_read_soundfile` for the first audio stream of a container."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise FileError(path, "it has no audio stream; add one, or name the audio file itself")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise FileError(path, "its sound is of a codec that FFmpeg does not know; convert it to wav")
            source_rate = stream.rate
            _refuse_rate(path, source_rate)
            first, stop, skipped = _source_span(source_rate, sample_rate, start_seconds, seconds)
            zero = _zero_seconds(container)
            if first > 0:
                wanted = max(0.0, first / source_rate - _PREROLL_SECONDS) + zero
                container.seek(int(wanted / (stream.time_base or Fraction(1, source_rate))), stream=stream)
            samples = _assemble(path, _decoded(container, stream, zero), first, stop, source_rate)
    except av.error.FFmpegError as error:
        reason = error.strerror or str(error)
        raise FileError(path, f"its sound cannot be decoded ({reason}); the file may be damaged") from error
    return samples, source_rate, skipped


def _zero_seconds(container: av.container.InputContainer) -> float:
    """When a player starts, in the container's own time: at the earlier of first picture and first sound.

    Negative times of sound are codec priming, which nobody hears; cover images do not count.
    ``talkgen.video.container`` has the same rule.
    """
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    starts = [_start(stream) for stream in moving[:1]]
    starts += [max(0.0, start) for stream in container.streams.audio if (start := _start(stream)) is not None]
    return min((start for start in starts if start is not None), default=0.0)


def _start(stream: av.VideoStream | av.AudioStream) -> float | None:
    """First timestamp of a stream, None where it states none."""
    if stream.start_time is None or stream.time_base is None:
        return None
    return float(stream.start_time * stream.time_base)


def _decoded(
    container: av.container.InputContainer, stream: av.AudioStream, zero: float
) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
    """Pieces of sound as (first sample counted from ``zero``, mono samples)."""
    to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
    for frame in container.decode(stream):
        at = None if frame.time is None else round((frame.time - zero) * stream.rate)
        frame.pts = None  # only the format changes, so the time above holds for what comes out
        for converted in to_float.resample(frame):
            channels = converted.to_ndarray()
            yield at, (channels[0] if channels.shape[0] == 1 else channels.mean(axis=0, dtype=np.float32))


def _assemble(
    path: Path,
    pieces: Iterator[tuple[int | None, NDArray[np.float32]]],
    first: int,
    stop: int | None,
    source_rate: int,
) -> NDArray[np.float32]:
    """Put pieces of sound at their times: gaps become silence; overlaps and what precedes are cut."""
    tolerance = round(_GAP_SECONDS * source_rate)
    parts: list[NDArray[np.float32]] = []
    written = first  # the next sample that is wanted
    position: int | None = None  # the next sample that the decoder is expected to give
    for at, samples in pieces:
        if position is None:
            position = at or 0
        elif at is not None and abs(at - position) > tolerance:
            position = at
        begin, position = position, position + samples.size
        if position <= written:
            continue
        if begin > written:
            if stop is None and begin - written > _LONGEST_GAP_SECONDS * source_rate:
                raise FileError(path, "its timestamps are broken: they jump by hours; re-encode it")
            gap = begin - written if stop is None else min(begin, stop) - written
            parts.append(np.zeros(gap, np.float32))
            written += gap
        kept = samples[max(0, written - begin) : None if stop is None else max(0, stop - begin)]
        parts.append(kept)
        written += kept.size
        if stop is not None and written >= stop:
            break
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
