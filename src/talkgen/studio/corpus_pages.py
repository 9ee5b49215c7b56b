"""The tab of corpora: clips of prepared stores with landmarks and crops, and what was left out and why.

Nothing here needs torch, which would make the studio slow to start; pictures are resized for looking at.
"""

from __future__ import annotations

import csv
import hashlib
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen.data.clip import Clip
from talkgen.data.store import Store
from talkgen.errors import FileError
from talkgen.faces.crop import invert, transform_points
from talkgen.video.contact_sheet import contact_sheet
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter

PAGE_CLIPS = 24
_SIDE, _VIDEO_SIDE, _SOURCE_SIDE = 128, 384, 480  # pixels
_GREEN, _ORANGE = (60, 230, 110), (255, 150, 40)


class Corpora:
    """Prepared stores below a folder; pictures and videos of their clips are made when they are looked at.

    Args:
        prepared: folder of stores.
        cache: where videos of clips are kept.
    """

    def __init__(self, prepared: Path, cache: Path) -> None:
        self.prepared = prepared
        self.cache = cache
        self._open: dict[str, tuple[float, Store]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Stores that there are."""
        files = sorted(self.prepared.glob("*/store.json")) if self.prepared.is_dir() else []
        return [file.parent.name for file in files]

    def store(self, name: str) -> Store | None:
        """A store by name; None where there is none."""
        if name not in self.names():
            return None
        changed = (self.prepared / name / "store.json").stat().st_mtime
        with self._lock:
            if name not in self._open or self._open[name][0] != changed:
                self._open[name] = changed, Store.open(self.prepared / name)
            return self._open[name][1]

    def facts(self, name: str) -> dict[str, Any] | None:
        """What a store holds, in numbers, and what was left out of it."""
        store = self.store(name)
        if store is None:
            return None
        file = self.prepared / name / "rejects.csv"
        with file.open(newline="", encoding="utf-8") as stream:
            rejects = list(csv.DictReader(stream))
        return {
            "name": name,
            "clips": len(store),
            "people": len({clip.identity for clip in store.clips}),
            "minutes": sum(clip.seconds for clip in store.clips) / 60,
            "fps": store.fps,
            "size": store.size,
            "splits": dict(Counter(clip.split for clip in store.clips)),
            "languages": dict(Counter(clip.language or "unknown" for clip in store.clips)),
            "rejects": rejects,
        }

    def page(self, name: str, first: int, split: str, words: str) -> dict[str, Any] | None:
        """Clips of a store, ``PAGE_CLIPS`` from ``first`` on.

        Args:
            name: of the store.
            first: number of the first one among those that fit.
            split: of ``train``, ``val``, ``test``; empty: all.
            words: part of an id, identity or note; empty: all.
        """
        store = self.store(name)
        if store is None:
            return None
        wanted = words.lower()
        fitting = [
            number
            for number, clip in enumerate(store.clips)
            if (not split or clip.split == split)
            and (not wanted or wanted in f"{clip.id} {clip.identity} {clip.notes}".lower())
        ]
        shown = fitting[max(0, first) : max(0, first) + PAGE_CLIPS]
        return {
            "total": len(fitting),
            "first": first,
            "clips": [_shown(store.clips[n], n, name) for n in shown],
        }

    def strip(self, name: str, number: int) -> bytes | None:
        """Four frames of a clip with their landmarks, as JPEG."""
        store = self.store(name)
        if store is None or not 0 <= number < len(store):
            return None
        clip = store.clips[number]
        frames = np.linspace(0, clip.frames - 1, 4).round().astype(int)
        points = _scaled(store.array(clip, "landmarks")[frames], _SIDE / clip.size)
        pictures = [_resized(frame, _SIDE) for frame in store.frames_at(clip, frames.tolist())]
        return _jpeg(contact_sheet([_dotted(one, at) for one, at in zip(pictures, points, strict=True)], 4))

    def video(self, name: str, number: int, landmarks: bool) -> Path | None:
        """A clip as a video with sound, with or without its landmarks."""
        store = self.store(name)
        if store is None or not 0 <= number < len(store):
            return None
        key = hashlib.sha256(
            f"{self.prepared.absolute()} {name} {store.description['manifest_sha256']}".encode()
        )
        out = self.cache / "clips" / f"{key.hexdigest()[:16]}-{number}-{int(landmarks)}.mp4"
        if not out.is_file():
            out.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:  # two who ask at once wait for one video
                if not out.is_file():
                    _write_clip(store, store.clips[number], landmarks, out)
        return out

    def source_frame(self, name: str, number: int) -> bytes | None:
        """A frame of the raw video with the crop drawn in, as JPEG; None where the video is not there."""
        store = self.store(name)
        if store is None or not 0 <= number < len(store):
            return None
        clip = store.clips[number]
        file = next(
            (place / clip.video for place in self._sources(name) if (place / clip.video).is_file()), None
        )
        if file is None:
            return None
        try:
            frame = next(iter(read_frames(file, start_seconds=clip.start_seconds)), None)
        except FileError:
            return None
        if frame is None:
            return None
        return _jpeg(_with_crop(frame, store.array(clip, "crop_matrix", 0, 1)[0], clip.size))

    def _sources(self, name: str) -> list[Path]:
        """Where the raw corpus may lie: beside the store, as `talkgen prepare corpus=demo` has it."""
        return [self.prepared / f"{name}_raw", self.prepared / name]


def _shown(clip: Clip, number: int, store: str) -> dict[str, Any]:
    facts = {
        key: value for key, value in asdict(clip).items() if key not in ("shard", "video", "audio", "raw")
    }
    return {**facts, "number": number, "seconds": clip.seconds, "url": f"/media/corpora/{store}/{number}"}


def _resized(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    way = cv2.INTER_AREA if len(frame) > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(frame, (side, side), interpolation=way), np.uint8)


def _scaled(points: NDArray[np.floating], scale: float) -> NDArray[np.floating]:
    return (points + 0.5) * scale - 0.5  # the centre of the top-left pixel is (0, 0)


def _dotted(picture: NDArray[np.uint8], points: NDArray[np.floating]) -> NDArray[np.uint8]:
    drawn = np.ascontiguousarray(picture)
    radius = max(1, len(drawn) // 150)
    for x, y in points:
        if np.isfinite((x, y)).all():
            cv2.circle(drawn, (round(float(x)), round(float(y))), radius, _GREEN, -1, cv2.LINE_AA)
    return drawn


def _write_clip(store: Store, clip: Clip, landmarks: bool, out: Path) -> None:
    sound = None
    if store.has(clip, "waveform"):
        sound = store.array(clip, "waveform").astype(np.float32) / 32768, 16000
    side = max(_VIDEO_SIDE, clip.size)
    points = _scaled(store.array(clip, "landmarks"), side / clip.size)
    with VideoWriter(out, clip.fps, side, side, crf=20, audio=sound, watermark=False) as writer:
        for start in range(0, clip.frames, 32):
            frames = store.frames(clip, start, min(start + 32, clip.frames))
            for number, stored in enumerate(frames, start):
                frame = _resized(stored, side)
                writer.write(_dotted(frame, points[number]) if landmarks else frame)


def _with_crop(frame: NDArray[np.uint8], matrix: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32) - 0.5
    scale = _SOURCE_SIDE / max(frame.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    drawn = np.ascontiguousarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=way), np.uint8)
    places = (transform_points(invert(matrix), corners) + 0.5) * scale
    cv2.polylines(drawn, [places.round().astype(np.int32)], True, _ORANGE, 2, cv2.LINE_AA)
    return drawn


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return bytes(data.tobytes())
