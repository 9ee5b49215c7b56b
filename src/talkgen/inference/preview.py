"""A strip of a video's frames as one picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from talkgen.data.files import write_atomically
from talkgen.video.contact_sheet import contact_sheet
from talkgen.video.reader import probe, read_frames

FRAMES = 8
_HEIGHT = 240  # pixels


def write_preview(video: str | Path) -> Path:
    """``FRAMES`` frames from the first to the last side by side, in a png beside the video.

    Args:
        video: any video file; frames are read one at a time.

    Returns:
        The picture's path: the video's with ``.png``.
    """
    info = probe(video)
    wanted = set(np.linspace(0, max(info.frames - 1, 0), FRAMES).round().astype(int).tolist())
    pictures = []
    for number, frame in enumerate(read_frames(video, info.fps)):
        if number in wanted:
            width = max(1, round(frame.shape[1] * _HEIGHT / frame.shape[0]))
            pictures.append(
                np.asarray(cv2.resize(frame, (width, _HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
            )
    out = Path(video).with_suffix(".png")
    sheet = np.ascontiguousarray(contact_sheet(pictures, columns=len(pictures))[..., ::-1])
    write_atomically(out, cv2.imencode(".png", sheet)[1].tobytes())
    return out
