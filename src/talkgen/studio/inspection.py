"""Is a file media, and of which kind? Runs in a process of its own, which a hostile file may kill.

``python -m talkgen.studio.inspection FOLDER SECONDS PIXELS`` looks at the file ``given`` of the folder, under
a name that says nothing of its content. FFmpeg is allowed a few containers only, so that no playlist can have
it open another file or address. What browsers cannot play, or whose length no player knows, is converted.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from talkgen.errors import FileError, TalkgenError

GIVEN = "given"
THUMBNAIL = "thumbnail.jpg"
_THUMBNAIL_SIDE = 320  # pixels
# Containers by FFmpeg's names → end of the stored file's name. Playlists, text and devices are left out.
_PICTURES = {
    "png_pipe": ".png",
    "jpeg_pipe": ".jpg",
    "webp_pipe": ".webp",
    "bmp_pipe": ".bmp",
    "tiff_pipe": ".tif",
}
_VIDEOS = {"mov": ".mp4", "matroska": ".mkv", "avi": ".avi", "mpegts": ".ts", "mpeg": ".mpg"}
_SOUNDS = {"wav": ".wav", "mp3": ".mp3", "flac": ".flac", "ogg": ".ogg", "aac": ".aac", "aiff": ".aiff"}
_FORMATS = _PICTURES | _VIDEOS | _SOUNDS
_WHITELIST = ",".join([*_FORMATS, "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "flv"])
_LEAST_SIDE = 16  # pixels
_PREVIEW_PICTURE, _PREVIEW_VIDEO = "preview.jpg", "preview.mp4"


@dataclass(frozen=True)
class Inspected:
    """What is in a file.

    Attributes:
        kind: ``picture``, ``video`` or ``sound``.
        file: its name in the folder now, with an end that fits to its content.
        preview: name of what a browser can show: the same, or a converted copy.
        seconds: how long it lasts; 0 for a picture.
        width, height: of pictures and videos; 0 for sounds.
        fps: of videos; 0 else.
        has_sound: whether something can be heard.
    """

    kind: str
    file: str
    preview: str
    seconds: float
    width: int
    height: int
    fps: float
    has_sound: bool


def inspect(folder: Path, seconds: float, pixels: int) -> Inspected:
    """Look at the file ``given``, rename it, and draw a thumbnail of pictures and videos beside it.

    Args:
        folder: of the file.
        seconds: it must not last longer.
        pixels: no side may be longer.

    Raises:
        TalkgenError: it is no media, too long or too large.
    """
    given = folder / GIVEN
    if given.stat().st_size == 0:
        raise TalkgenError("the file is empty")
    try:
        container = av.open(
            str(given), options={"format_whitelist": _WHITELIST, "protocol_whitelist": "file"}
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise TalkgenError("this is no picture, video or sound that can be read") from error
    with container:
        name = container.format.name.split(",")[0]
        suffix = _FORMATS.get(name)
        moving = [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]
        if suffix is None or (not moving and not container.streams.audio):
            raise TalkgenError("there is neither a picture nor a sound in this file")
        for stream in moving:
            width, height = stream.codec_context.width, stream.codec_context.height
            if max(width, height) > pixels:
                raise TalkgenError(f"it is {width} × {height} pixels; at most {pixels} a side are taken")
        lasting = (container.duration or 0) / av.time_base
        played = bool(moving) and _is_played(name, moving[0])
    if lasting > seconds:
        raise TalkgenError(_too_long(lasting, seconds))
    file = given.rename(folder / f"file{suffix}")
    if name in _PICTURES:
        return _picture(file)
    if not moving:
        return _sound(file, seconds)
    return _video(file, seconds, known=lasting > 0, played=played)


def _is_played(container: str, stream: Any) -> bool:
    """Whether browsers play a video."""
    codec = stream.codec_context.name
    codecs = {"mov": ("h264", "vp9", "av1", "libdav1d"), "matroska": ("vp8", "vp9", "av1", "libdav1d")}
    return codec in codecs.get(container, ()) and stream.codec_context.pix_fmt in ("yuv420p", "yuvj420p")


def _too_long(lasting: float, seconds: float) -> str:
    return f"it lasts {lasting:.0f} s; at most {seconds:.0f} s are taken. Give a shorter piece"


def _picture(file: Path) -> Inspected:
    import cv2

    picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)  # turned as its EXIF entry says
    if picture is None:
        raise TalkgenError("this picture cannot be read")
    frame = picture[..., ::-1]
    height, width = frame.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise TalkgenError(f"it is {width} × {height} pixels, too small for a face; give a larger picture")
    preview = file.name
    if file.suffix in (".tif", ".bmp"):  # which not every browser shows
        preview = _PREVIEW_PICTURE
        write_small(frame, file.with_name(preview), max(height, width))
    write_small(frame, file.with_name(THUMBNAIL))
    return Inspected("picture", file.name, preview, 0.0, width, height, 0.0, False)


def _sound(file: Path, seconds: float) -> Inspected:
    from talkgen.audio.waveform import load_waveform, save_waveform

    waveform = load_waveform(file, seconds=seconds + 1)
    lasting = len(waveform) / 16000
    if lasting > seconds:
        raise TalkgenError(_too_long(lasting, seconds))
    if not len(waveform):
        raise TalkgenError("there is no sound in this file")
    if file.suffix not in _SOUNDS.values():  # such as what a browser records
        kept = file.with_suffix(".wav")
        save_waveform(kept, waveform, 16000)
        file.unlink()
        file = kept
    return Inspected("sound", file.name, file.name, lasting, 0, 0, 0.0, True)


def _video(file: Path, seconds: float, known: bool, played: bool) -> Inspected:
    from talkgen.video.reader import probe, read_frames

    if not known:  # a browser's recording
        _convert(file, file.with_name("recorded.mp4"), seconds)
        file.unlink()
        file, played = file.with_name("recorded.mp4"), True
    info = probe(file)
    first = next(iter(read_frames(file)), None)
    if first is None:
        raise TalkgenError("no frame of this video can be read")
    if min(info.width, info.height) < _LEAST_SIDE:
        raise TalkgenError(f"it is {info.width} × {info.height} pixels, too small for a face")
    if info.seconds > seconds:
        raise TalkgenError(_too_long(info.seconds, seconds))
    preview = file.name
    if not played:
        preview = _PREVIEW_VIDEO
        _convert(file, file.with_name(preview), seconds)
    elif file.suffix == ".mkv":
        file = file.rename(file.with_suffix(".webm"))
        preview = file.name
    write_small(first, file.with_name(THUMBNAIL))
    size = info.width, info.height
    return Inspected("video", file.name, preview, info.seconds, *size, info.fps, info.has_audio)


def _convert(file: Path, out: Path, seconds: float) -> None:
    """The video as H.264 that browsers play."""
    from talkgen.video.reader import probe, read_frames
    from talkgen.video.writer import VideoWriter

    info = probe(file)
    fps = info.fps if 5 <= info.fps <= 60 else 25.0  # a recording states the ticks of a clock
    audio = file if info.has_audio else None
    with VideoWriter(out, fps, info.width, info.height, crf=14, audio=audio) as writer:
        for number, frame in enumerate(read_frames(file, fps)):
            if number > seconds * fps:
                raise TalkgenError(f"it lasts longer than {seconds:.0f} s; give a shorter piece")
            writer.write(frame)


def write_small(frame: Any, out: Path, side: int = _THUMBNAIL_SIDE) -> None:
    """A JPEG of a frame, uint8 RGB (h, w, 3), no side longer than ``side`` pixels."""
    import cv2

    from talkgen.data.files import write_atomically

    shrink = min(1.0, side / max(frame.shape[:2]))
    size = max(1, round(frame.shape[1] * shrink)), max(1, round(frame.shape[0] * shrink))
    small = cv2.resize(np.ascontiguousarray(frame[..., ::-1]), size, interpolation=cv2.INTER_AREA)
    write_atomically(out, cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())


def main(arguments: list[str]) -> int:
    """Print what is in a file as JSON, or ``{"reason": …}``.

    Args:
        arguments: folder, seconds, pixels.
    """
    folder, seconds, pixels = Path(arguments[0]), float(arguments[1]), int(arguments[2])
    try:
        print(json.dumps(asdict(inspect(folder, seconds, pixels))))
    except FileError as error:  # the name of the stored file says nothing to the user
        print(json.dumps({"reason": error.cause}))
    except TalkgenError as error:
        print(json.dumps({"reason": str(error)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
