"""Looking at a store: a contact sheet, a check of every byte, and how fast it reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from talkgen.data.clip import SPLITS
from talkgen.data.dataset import ClipWindows
from talkgen.data.files import write_atomically
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings, resize_frames, resize_points
from talkgen.video.contact_sheet import contact_sheet

_PICTURES = 48
_SIDE = 144  # pixels of one picture
_MEASURE_SECONDS = 2.0


@dataclass(frozen=True)
class StoreCheck:
    """What `check_store` found.

    Attributes:
        faults: (file or clip, what is wrong with it).
        checked: shards and clips that were read.
        summary: sentences for a person.
    """

    faults: list[tuple[str, str]]
    checked: int
    summary: list[str]


def write_contact_sheet(store: Store, file: Path) -> None:
    """Two frames of up to 24 clips, spread over the store, with their landmarks, as JPEG."""
    chosen = np.unique(np.linspace(0, len(store) - 1, min(len(store), _PICTURES // 2)).round().astype(int))
    pictures, labels = [], []
    for number in chosen:
        clip = store.clips[number]
        frames = [clip.frames // 4, 3 * clip.frames // 4]
        landmarks = resize_points(store.array(clip, "landmarks")[frames], _SIDE / clip.size)
        for picture, points in zip(
            resize_frames(store.frames_at(clip, frames), _SIDE), landmarks, strict=True
        ):
            for x, y in points:
                cv2.circle(picture, (round(float(x)), round(float(y))), 1, (0, 255, 80), -1)
            pictures.append(picture)
            labels.append(clip.id)
    sheet = contact_sheet(pictures, 8, labels)
    data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    write_atomically(file, data.tobytes())


def check_store(store: Store, progress: bool = True) -> StoreCheck:
    """Read every byte of a store and measure how fast windows come out of it."""
    total = len(store.description["shards"]) + len(store)
    results = tqdm(store.verify(), total=total, desc="check", disable=not progress)
    faults = [(name, fault) for name, fault in results if fault is not None]
    return StoreCheck(faults, total, list(_summary(store, measure=not faults)))


def _summary(store: Store, measure: bool) -> Iterator[str]:
    seconds = int(store.clips.frames.sum()) / store.fps
    size = sum(shard["bytes"] for shard in store.description["shards"])
    people = len(store.clips.identities())
    shards = len(store.description["shards"])
    yield f"{len(store)} clips of {people} identities, {seconds / 3600:.2f} h at {store.fps:g} frames/s"
    yield f"crops of {store.size} px, {size / 1e9:.2f} GB in {shards} shards"
    yield "splits: " + ", ".join(f"{split} {len(store.clips.of_split(split))}" for split in SPLITS)
    yield "arrays: " + ", ".join(name for name in store.streams if not name.startswith("frames"))
    if measure:
        yield f"windows of 5 frames: {windows_per_second(store):.0f} a second on one core"


def windows_per_second(store: Store, seconds: float = _MEASURE_SECONDS) -> float:
    """Random training windows of 5 frames that one process reads in a second."""
    dataset = ClipWindows(store, store.clips, WindowSettings())
    rng = np.random.default_rng(0)
    began, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        dataset[0, int(rng.integers(len(dataset)))]
        count += 1
    return count / passed
