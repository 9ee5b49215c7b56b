"""Open a media file through PyAV, find its streams, and say when a player starts it.

Time zero of a file is the moment at which a player starts it: the earlier of its first picture and its first
sound (negative timestamps are codec priming, which nobody hears, and do not count).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from talkgen.errors import FileError

# FFmpeg turns text into pictures of text; a transcript handed over by mistake is no video.
_TEXT_FORMATS = {"tty"}


def open_container(file: str | Path) -> Any:
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
        raise FileError(file, f"cannot be opened as video ({reason(error)})") from error
    if container.format.name in _TEXT_FORMATS:
        container.close()
        raise FileError(file, "is a text file, not a video")
    return container


def reason(error: BaseException) -> str:
    """FFmpeg's own words without the file name and number that PyAV puts around them."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def video_stream(container: Any, file: str | Path) -> Any:
    """The first stream of moving pictures; the cover image of a music file is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            stream.thread_type = "AUTO"
            return stream
    kind = "only sound" if container.streams.audio else "no pictures"
    raise FileError(file, f"holds {kind}; a video is needed here")


def zero_seconds(container: Any, stream: Any) -> float:
    """Timestamp of the moment at which a player starts."""
    starts = [float(stream.start_time * stream.time_base)] if stream.start_time is not None else []
    for audio in container.streams.audio:
        if audio.start_time is not None:
            starts.append(max(0.0, float(audio.start_time * audio.time_base)))
    return min(starts, default=0.0)


def sound_zero_seconds(container: Any, sound: Any) -> float:
    """The same for a file that is read for its sound; a music file begins where its codec's priming ends."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return zero_seconds(container, stream)
    return max(0.0, float(sound.start_time * sound.time_base)) if sound.start_time is not None else 0.0
