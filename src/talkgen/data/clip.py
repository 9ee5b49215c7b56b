"""What a clip is: as a corpus holds it (`RawClip`) and as a prepared store holds it (`Clip`)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

SPLITS = ("train", "val", "test")

_Line = TypeVar("_Line", "RawClip", "Clip")


@dataclass(frozen=True)
class RawClip:
    """A stretch of video that a corpus adapter found; nothing has been decoded yet.

    All paths are relative to the folder of the corpus (absolute ones are taken as they are), so that a
    manifest does not change with the machine.
    """

    id: str  # unique in its corpus, made of the corpus' own names, e.g. "id00017/01dfn2spqyE/00001"
    corpus: str  # "hdtf", "voxceleb2", "lrw", "chdtf", "folder", "demo"
    split: str  # one of SPLITS
    video: str  # file with the frames
    identity: str  # who is seen; unique in its corpus
    audio: str | None = None  # file with the speech; None: the sound track of `video`
    language: str | None = None  # ISO 639-1 ("en", "zh"), None: not known
    start_seconds: float = 0.0  # the stretch of `video` (and of `audio`) that is meant
    end_seconds: float | None = None  # None: to the end
    # An .npz that makes detection needless: `landmarks` float32 (frames, 68, 2) in pixels of the video at
    # its own frame rate, and any further per-frame or per-clip arrays, whose names begin with `truth_`.
    truth: str | None = None
    # Id of the clip whose performance this clip repeats with another identity; both are cropped alike, by the
    # landmarks of that clip.
    swap_of: str | None = None
    notes: str = ""  # anything a reader of the manifest should know

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.split not in SPLITS:
            raise ValueError(
                f"split of clip {self.id!r} is {self.split!r}, should be one of {', '.join(SPLITS)}"
            )
        if self.end_seconds is not None and self.end_seconds <= self.start_seconds:
            raise ValueError(f"clip {self.id!r} ends at {self.end_seconds} s, before it starts")


@dataclass(frozen=True)
class Clip:
    """One line of the manifest `clips.jsonl` of a prepared store.

    The frames are `frames` square crops of `size` pixels at `fps`; they and all arrays lie in the file
    `shard`.
    """

    id: str  # id of the raw clip, with "#1", "#2", … where that was cut into several
    corpus: str
    split: str
    identity: str
    frames: int
    fps: float
    size: int  # pixels, width and height of the stored crops
    shard: str = ""  # file name, relative to the store
    language: str | None = None
    video: str = ""  # as in RawClip
    audio: str | None = None
    start_seconds: float = 0.0  # place of the first frame in `video`
    raw: str = ""  # id of the RawClip it was cut from
    swap_of: str | None = None  # id of a clip of this store
    notes: str = ""
    # What the filters measured: face_found_ratio, face_size_pixels, yaw_degrees, blur, speech_ratio,
    # av_offset_frames, av_confidence. A measure that was not taken is absent.
    checks: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.split not in SPLITS:
            raise ValueError(
                f"split of clip {self.id!r} is {self.split!r}, should be one of {', '.join(SPLITS)}"
            )
        if self.frames < 1 or self.fps <= 0:
            raise ValueError(f"clip {self.id!r} has {self.frames} frames at {self.fps} a second")

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps


def to_json(clip: RawClip | Clip) -> str:
    """One line of JSON without a line feed. Values that equal their defaults are left out."""
    values = {}
    for item in dataclasses.fields(clip):
        value = getattr(clip, item.name)
        default = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
        if value != default:
            values[item.name] = dict(value) if isinstance(value, Mapping) else value
    return json.dumps(values, ensure_ascii=False)


def from_json(line: str, kind: type[_Line]) -> _Line:
    """Read a line that `to_json` wrote. A key that is absent takes its default; an unknown one is refused
    by name.

    Raises:
        ValueError: the line is not JSON, or lacks a key, or has one that this version does not know.
    """
    values: Any = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    needed, known = keys_of(kind)
    if unknown := sorted(values.keys() - known):
        raise ValueError(
            f"unknown key {', '.join(map(repr, unknown))} (written by a newer talkgen, or misspelt)"
        )
    if lacking := sorted(needed - values.keys()):
        raise ValueError(f"key {', '.join(map(repr, lacking))} is missing")
    return kind(**values)


def keys_of(kind: type[RawClip] | type[Clip]) -> tuple[frozenset[str], frozenset[str]]:
    """Keys that a line must have, and those that it may have."""
    return _KEYS[kind.__name__]


def _keys_of(kind: type[RawClip] | type[Clip]) -> tuple[frozenset[str], frozenset[str]]:
    items = dataclasses.fields(kind)
    absent = dataclasses.MISSING
    needed = (item.name for item in items if item.default is absent and item.default_factory is absent)
    return frozenset(needed), frozenset(item.name for item in items)


_KEYS = {kind.__name__: _keys_of(kind) for kind in (RawClip, Clip)}  # not anew for every line of a manifest
