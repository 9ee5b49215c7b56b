"""What a user asks for, and the files that a method is given for it.

A picture becomes a short video that stands still, a text becomes speech; both live only as long as the work.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from talkgen.audio.speech import speak
from talkgen.audio.waveform import save_waveform
from talkgen.errors import FileError, TalkgenError
from talkgen.inference.target_video import read_picture
from talkgen.video.writer import VideoWriter

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LANGUAGES = ("en", "zh")
_STILL_FPS, _STILL_FRAMES = 25, 25  # it runs forwards and backwards as long as the sound lasts
_LONGEST_SIDE = 1920  # pixels; more is no gain for one face, and few players show it


@dataclass(frozen=True)
class Request:
    """One video to generate.

    Attributes:
        target: picture or video of who speaks.
        out: where the result goes.
        source: picture whose face is put there; None: the target's own.
        audio: sound or video with the speech.
        text: what is said instead, by the demo voice.
        language: of the text: ``en`` or ``zh``.
        voice: of the text, a name of ``talkgen.audio.speech.voices()``; None: the first.
    """

    target: Path
    out: Path
    source: Path | None = None
    audio: Path | None = None
    text: str | None = None
    language: str = "en"
    voice: str | None = None

    def check(self) -> None:
        """Refuse what cannot be done, before anything is loaded.

        Raises:
            TalkgenError: a file is missing or would be overwritten, or the speech is unclear.
        """
        if self.audio is not None and self.text is not None:
            raise TalkgenError("audio and text are both given; the speech is either a file or a text")
        if self.language not in LANGUAGES:
            raise TalkgenError(f"language={self.language}: give {' or '.join(LANGUAGES)}")
        for file in (self.source, self.target, self.audio):
            if file is not None and not file.is_file():
                raise FileError(file, "no such file; check the path")
            if file is not None and file.stat().st_size == 0:
                raise FileError(file, "the file is empty; fetch it again")
            if file is not None and self.out.exists() and self.out.samefile(file):
                raise FileError(self.out, "is one of the inputs; name another file")
        if is_picture(self.target) and self.audio is None and self.text is None:
            raise FileError(self.target, "is a picture, which has no sound: give audio=FILE or text=WORDS")


def is_picture(file: str | Path) -> bool:
    """Whether a file is named as a picture."""
    return Path(file).suffix.lower() in PICTURES


@contextlib.contextmanager
def as_files(request: Request) -> Iterator[tuple[Path, Path | None]]:
    """Target video and sound of a request, made where the user gave a picture or a text.

    Raises:
        TalkgenError: the picture cannot be read, or the text not be spoken; an error of what was made names
            what the user gave.
    """
    with tempfile.TemporaryDirectory(prefix="talkgen-") as folder:
        target, audio = request.target, request.audio
        if is_picture(target):
            target = _still(target, Path(folder) / "still.mp4")
        if request.text is not None:
            audio = _spoken(request, Path(folder) / "speech.wav")
        given = {str(target): str(request.target), str(audio): f"text={request.text!r}"}
        try:
            yield target, audio
        except FileError as error:
            if error.file in given and Path(error.file).is_relative_to(folder):
                raise FileError(given[error.file], error.cause) from error
            raise


def _still(picture: Path, out: Path) -> Path:
    """A video of a picture, without loss but of its colours' resolution."""
    frame = read_picture(picture)
    shrink = _LONGEST_SIDE / max(frame.shape[:2])
    if shrink < 1:
        frame = np.asarray(cv2.resize(frame, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA))
    height, width = frame.shape[:2]
    if min(height, width) < 16:
        raise FileError(picture, f"is {width} × {height} pixels, too small for a face; give a larger picture")
    with VideoWriter(out, _STILL_FPS, width, height, crf=0, preset="ultrafast") as writer:
        for _ in range(_STILL_FRAMES):
            writer.write(frame.astype(np.uint8))
    return out


def _spoken(request: Request, out: Path) -> Path:
    try:
        speech = speak(str(request.text), "zh" if request.language == "zh" else "en", request.voice)
    except ValueError as error:
        raise TalkgenError(f"text={request.text!r} cannot be spoken: {error}") from error
    save_waveform(out, speech.waveform, speech.sample_rate)
    return out
