"""Windows of clips as training samples: item (epoch, index) depends on nothing but (seed, epoch, index)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from talkgen.audio.alignment import (
    HUBERT_FIRST_STEP_SECONDS,
    WHISPER_FIRST_STEP_SECONDS,
    features_at_frames,
    mel_window,
    mel_windows,
    per_frame_mel_window,
    sample_range,
)
from talkgen.data.clip import Clip
from talkgen.data.clip_table import JoinedClips, chosen, frame_counts, identity_names
from talkgen.data.store import Store
from talkgen.data.windows import (
    WindowPlan,
    WindowSettings,
    mirror_points,
    mirror_warp,
    plan_window,
    resize_frames,
    resize_points,
    resize_warp,
)
from talkgen.errors import FileError, TalkgenError

log = logging.getLogger(__name__)

_FEATURES = {"whisper": WHISPER_FIRST_STEP_SECONDS, "hubert": HUBERT_FIRST_STEP_SECONDS}
_REPLACEMENTS = 8  # a bad sample is replaced by another one at most so often
_STEP = 7919  # to the index of the replacement; a prime, so that it leads to another clip


class ClipWindows(Dataset[dict[str, Any]]):
    """Samples of some clips of a store; an epoch has one for every `stride` frames of every clip.

    ``dataset[epoch, index]`` is a dictionary of arrays as in a batch (docs/architecture.md) without the
    first axis, except that pictures are uint8 `t h w 3`; `talkgen.data.windows.to_model_range` turns a
    batch of them. It also has the keys ``faults``: names and causes of samples that could not be read and
    that this one stands for; and ``retries``: reads of a remote store that had to be repeated for it.

    Args:
        store: where the clips are.
        clips: which of them; those shorter than `window.shortest_clip` are left out (and counted in the log).
        window: what a sample holds.
        seed: of everything that is drawn.
        identities: names whose index a sample has; default: those of `clips`, sorted.
        jitter: windows begin anywhere in their slot, another place each epoch.
        limit: at most so many samples an epoch, spread evenly over the clips.
        ram_bytes: decoded clips are kept in memory up to this size, in each worker.

    Raises:
        TalkgenError: there is no clip, or none is long enough, or an array is asked for that the store has
        not.
    """

    def __init__(
        self,
        store: Store,
        clips: Sequence[Clip],
        window: WindowSettings,
        seed: int = 0,
        identities: Sequence[str] | None = None,
        jitter: bool = True,
        limit: int | None = None,
        ram_bytes: int = 0,
    ) -> None:
        if not clips:
            raise TalkgenError(
                "no clips to draw windows from: the store, or this split of it, is empty. "
                "`talkgen prepare` names what it left out in rejects.csv"
            )
        if window.sound and "mel" not in store.streams:
            raise TalkgenError(
                "the store has no sound: it was prepared with sound=false, for networks of pictures "
                "alone (window.sound=false)"
            )
        if unknown := sorted(set(window.arrays) - set(store.streams)):
            names = ", ".join(name for name in store.streams if not name.startswith("frames"))
            raise TalkgenError(f"the store has no array {', '.join(unknown)}; it has {names}")
        lengths, places = np.unique(frame_counts(clips), return_inverse=True)
        counts = np.array([window.windows_in(int(length)) for length in lengths])[places]
        self.clips = clips if counts.all() else chosen(clips, counts > 0)
        if not self.clips:
            raise TalkgenError(
                f"none of {len(clips)} clips is long enough: a window of {window.frames} frames with its "
                f"references and shifted mels needs {window.shortest_clip}, "
                f"the longest clip has {lengths[-1]}"
            )
        for name in window.arrays:
            _need_array(store, self.clips, name)
        if len(self.clips) < len(clips):
            log.warning(
                "%d of %d clips are shorter than the %d frames that a sample needs, and are left out",
                len(clips) - len(self.clips), len(clips), window.shortest_clip,
            )  # fmt: skip
        self.store = store
        self.window = window
        self.seed = seed
        self.jitter = jitter
        self.identities = identity_names(clips) if identities is None else list(identities)
        self._identity = {name: number for number, name in enumerate(self.identities)}
        self._ends = np.cumsum(counts[counts > 0])
        total = int(self._ends[-1])
        self._chosen = (
            np.linspace(0, total - 1, limit).round().astype(int) if limit and limit < total else None
        )
        self._ram_left = ram_bytes
        self._ram: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._chosen is None else len(self._chosen)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        faults: list[str] = []
        retries = self._retries()
        for attempt in range(_REPLACEMENTS + 1):
            place = (index + attempt * _STEP) % len(self)
            try:
                sample = self.sample(epoch, place)
                return {**sample, "faults": faults, "retries": self._retries() - retries}
            except FileError as error:
                faults.append(str(error))
        raise TalkgenError(f"{len(faults)} samples in a row cannot be read: " + "; ".join(faults))

    def locate(self, index: int) -> tuple[Clip, int]:
        """Clip and slot of a sample."""
        place = index if self._chosen is None else int(self._chosen[index])
        number = int(np.searchsorted(self._ends, place, side="right"))
        return self.clips[number], place - int(self._ends[number - 1] if number else 0)

    @property
    def clip_numbers(self) -> np.ndarray:
        """The place in ``clips`` that each sample is from, int `(len(self),)`."""
        places = np.arange(int(self._ends[-1])) if self._chosen is None else self._chosen
        return np.searchsorted(self._ends, places, side="right")

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """The sample, or the error that keeps it from being read.

        Raises:
            FileError: its shard is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        clip, slot = self.locate(index)
        rng = np.random.default_rng((self.seed, epoch, index))
        return self.read(clip, plan_window(rng, self.window, clip.frames, slot, self.jitter))

    def _retries(self) -> int:
        return self.store.retries

    def read(self, clip: Clip, plan: WindowPlan) -> dict[str, Any]:
        """Read what a plan says."""
        window, store, start, count = self.window, self.store, plan.start, self.window.frames
        size = window.size or clip.size
        scale = size / clip.size
        landmarks = resize_points(store.array(clip, "landmarks", start, start + count), scale)
        warp = resize_warp(store.array(clip, "identity_warp", start, start + count), scale)
        if plan.mirrored:
            landmarks, warp = mirror_points(landmarks, size), mirror_warp(warp, size)
        sample: dict[str, Any] = {
            "landmarks": landmarks,
            "identity_warp": warp,
            "clip": clip.id,
            "identity": self._identity[clip.identity],
            "frame": start,
        }
        if window.pictures:
            pictures = self._frames(clip, [*range(start, start + count), *plan.references])
            if plan.mirrored:
                pictures = np.ascontiguousarray(pictures[:, :, ::-1])
            sample["video"] = pictures[:count]
            if plan.references:
                sample["reference"] = pictures[count:]
        if window.sound:
            sample["mel"] = self._mel(clip, start)[None]
        if plan.shifts:
            sample["shifted_mel"] = np.stack([self._mel(clip, start + shift) for shift in plan.shifts])[
                :, None
            ]
            sample["shift"] = np.array(plan.shifts, np.int64)
        if window.mel_per_frame:
            sample["mel_per_frame"] = self._mel_per_frame(clip, start)[:, None]
        if window.waveform:
            samples = sample_range(start, count, clip.fps)
            available = store.length(clip, "waveform")
            read = store.array(clip, "waveform", min(samples.start, available), min(samples.stop, available))
            heard = np.zeros(samples.stop - samples.start, np.float32)
            heard[: len(read)] = read / np.float32(32768)
            sample["waveform"] = heard
        for name in window.arrays:
            sample[name] = self._per_frame(clip, name, start)
        return sample

    def _frames(self, clip: Clip, numbers: list[int]) -> np.ndarray:
        size = self.window.size or clip.size
        cached = self._ram.get(clip.id)
        if cached is not None:
            return cached[numbers]
        needed = clip.frames * size * size * 3
        if needed > self._ram_left:
            return resize_frames(self.store.frames_at(clip, numbers), size)
        frames = resize_frames(self.store.frames(clip), size)
        self._ram[clip.id] = frames
        self._ram_left -= needed
        return frames[numbers]

    def _mel(self, clip: Clip, start: int) -> np.ndarray:
        steps = mel_window(start, clip.fps, self.window.frames)
        return self._mel_columns(clip, [steps.start], steps.stop - steps.start)[0]

    def _mel_per_frame(self, clip: Clip, start: int) -> np.ndarray:
        convention = self.window.mel_per_frame_convention
        windows = [per_frame_mel_window(start + k, clip.fps, convention) for k in range(self.window.frames)]
        return self._mel_columns(clip, [steps.start for steps in windows], windows[0].stop - windows[0].start)

    def _mel_columns(self, clip: Clip, starts: list[int], steps: int) -> np.ndarray:
        """Windows `(n, 80, steps)`, read as one stretch; the ends of the audio are repeated where needed."""
        length = self.store.length(clip, "mel")
        first = min(max(min(starts), 0), length - 1)
        last = max(min(max(starts) + steps, length), first + 1)
        mel = self.store.array(clip, "mel", first, last)
        return mel_windows(mel, np.array(starts) - first, steps)

    def _per_frame(self, clip: Clip, name: str, start: int) -> np.ndarray:
        count = self.window.frames
        if name not in _FEATURES:
            return self.store.array(clip, name, start, start + count)
        length = self.store.length(clip, name)
        rate = 50 / clip.fps
        first = min(max(int(start * rate) - 1, 0), length - 1)
        last = max(min(int((start + count) * rate) + 2, length), first + 1)
        offset = _FEATURES[name] + first / 50 - start / clip.fps
        return features_at_frames(
            self.store.array(clip, name, first, last), count, clip.fps, first_step_seconds=offset
        )


class MixedWindows(ClipWindows):
    """The samples of several datasets as one: first all of the first, then all of the second, …

    Samples of different stores stand in one batch, so `window.size` must be given. Identities of all stores
    are told apart by the names that each dataset was given.

    Args:
        parts: the datasets.
    """

    def __init__(self, parts: Sequence[ClipWindows]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.clips = JoinedClips([part.clips for part in parts])
        self._chosen = None

    @property
    def clip_numbers(self) -> np.ndarray:
        """The place in ``clips`` that each sample is from, int `(len(self),)`."""
        firsts = np.cumsum([0, *(len(part.clips) for part in self.parts)])
        return np.concatenate(
            [first + part.clip_numbers for first, part in zip(firsts, self.parts, strict=False)]
        )

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """The sample, or the error that keeps it from being read."""
        part, place = self._part(index)
        return part.sample(epoch, place)

    def locate(self, index: int) -> tuple[Clip, int]:
        """Clip and slot of a sample."""
        part, place = self._part(index)
        return part.locate(place)

    def _retries(self) -> int:
        return sum(part.store.retries for part in self.parts)

    def _part(self, index: int) -> tuple[ClipWindows, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[number], index - int(self._ends[number - 1] if number else 0)


def _need_array(store: Store, clips: Sequence[Clip], name: str) -> None:
    """Refuse an array that some clip lacks, or that has not one row a frame."""
    rows, frames = store.lengths(clips, name), frame_counts(clips)
    if (lacking := np.flatnonzero(rows < 0)).size:
        clip = clips[int(lacking[0])]
        raise TalkgenError(f"clip {clip.id} has no array {name!r}; ask for arrays that every clip has")
    if name not in _FEATURES and (other := np.flatnonzero(rows != frames)).size:
        clip = clips[int(other[0])]
        raise TalkgenError(
            f"array {name!r} of clip {clip.id} has {rows[other[0]]} rows for {clip.frames} frames; "
            "windows can only be cut out of arrays with a row a frame"
        )


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch; text becomes a list, faults and retries are put together."""
    batch: dict[str, Any] = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        if name == "faults":
            batch[name] = [fault for faults in values for fault in faults]
        elif name == "retries":
            batch[name] = sum(values)
        elif isinstance(values[0], np.ndarray):
            batch[name] = torch.from_numpy(np.stack(values))
        elif isinstance(values[0], int):
            batch[name] = torch.tensor(values, dtype=torch.int64)
        else:
            batch[name] = values
    return batch
