"""The clips that an evaluation scores, read piece by piece at the size that a model works at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from talkgen.audio.alignment import mel_window, mel_windows, sample_range
from talkgen.data.clip import Clip
from talkgen.data.store import Store
from talkgen.data.windows import resize_frames, resize_points, resize_warp
from talkgen.errors import TalkgenError
from talkgen.metrics.footage import MOUTH_POINTS


class HeldOutClips:
    """Some clips of a store, in order; a clip's number is its place in the list.

    Args:
        store: where they are.
        clips: which.
        size: pixels that frames are resized to, as in training; None keeps them as stored.
        frames: at most so many frames of each clip, from its beginning; None takes all.
        piece: frames read at a time. Memory depends on this and not on the length of a clip.
    """

    def __init__(
        self,
        store: Store,
        clips: Sequence[Clip],
        size: int | None = None,
        frames: int | None = None,
        piece: int = 32,
    ) -> None:
        self.store = store
        self.clips = list(clips)
        self.size = size or store.size
        self.limit = frames
        self.piece = piece
        # Everything that is scored asks for the same piece in turn; it is decoded once.
        self._read = lru_cache(maxsize=1)(self._read_piece)

    def __len__(self) -> int:
        return len(self.clips)

    def frame_count(self, number: int) -> int:
        """Frames of a clip that are scored."""
        clip = self.clips[number]
        return clip.frames if self.limit is None else min(clip.frames, self.limit)

    def frame_size(self, number: int) -> tuple[int, int]:
        """Height and width of the frames, the same for all clips."""
        return self.size, self.size

    def spans(self, number: int) -> Iterator[tuple[int, int]]:
        """First and last-but-one frame of each piece of a clip."""
        count = self.frame_count(number)
        for start in range(0, count, self.piece):
            yield start, min(start + self.piece, count)

    def frames(self, number: int, start: int, stop: int) -> Tensor:
        """uint8 RGB (stop - start, size, size, 3); not to be written to."""
        return self._read(number, start, stop)

    def _read_piece(self, number: int, start: int, stop: int) -> Tensor:
        stored = self.store.frames(self.clips[number], start, stop)
        return torch.from_numpy(resize_frames(stored, self.size))

    def mouth_points(self, number: int, start: int, stop: int) -> Tensor:
        """The corpus' own mouth points, float32 (stop - start, 20, 2) in pixels of :meth:`frames`."""
        return self.landmarks(number, start, stop)[:, MOUTH_POINTS]

    def landmarks(self, number: int, start: int, stop: int) -> Tensor:
        """The corpus' own points, float32 (stop - start, 68, 2) in pixels of :meth:`frames`."""
        clip = self.clips[number]
        points = self.store.array(clip, "landmarks", start, stop)
        return torch.from_numpy(resize_points(points, self.size / clip.size))

    def identity_warps(self, number: int, start: int, stop: int) -> np.ndarray:
        """Pixels of :meth:`frames` → the ArcFace template, float32 (stop - start, 2, 3), by the corpus."""
        clip = self.clips[number]
        return resize_warp(self.store.array(clip, "identity_warp", start, stop), self.size / clip.size)

    def waveform(self, number: int) -> np.ndarray:
        """The sound of the scored frames, float32 in [-1, 1] at 16 kHz; silence where there is none."""
        clip = self.clips[number]
        samples = sample_range(0, self.frame_count(number), clip.fps)
        if not self.store.has(clip, "waveform"):
            return np.zeros(samples.stop, np.float32)
        stop = min(samples.stop, self.store.length(clip, "waveform"))
        return self.store.array(clip, "waveform", 0, stop).astype(np.float32) / 32768

    def sound(self, number: int, start: int, stop: int) -> Tensor | None:
        """The sound of some frames, float32 in [-1, 1] at 16 kHz; silence beyond the end, None without."""
        return sound_of(self.store, self.clips[number], start, stop)

    def mel(self, number: int, frames: int) -> Tensor:
        """The mel windows that belong to every window of ``frames`` frames, float32 (n, 1, 80, steps)."""
        clip = self.clips[number]
        count = self.frame_count(number) - frames + 1
        windows = [mel_window(first, clip.fps, frames) for first in range(max(count, 0))]
        if not windows:
            return torch.empty(0, 1, 80, 16)
        mel = self.store.array(clip, "mel")
        starts = [window.start for window in windows]
        return torch.from_numpy(mel_windows(mel, starts, windows[0].stop - windows[0].start))[:, None]


def sound_of(store: Store, clip: Clip, start: int, stop: int) -> Tensor | None:
    """The sound of frames ``start`` … ``stop`` of a stored clip, float32 in [-1, 1] at 16 kHz.

    Silence beyond its end; None where a store has no sound.
    """
    if not store.has(clip, "waveform"):
        return None
    samples = sample_range(start, stop - start, clip.fps)
    found = torch.zeros(samples.stop - samples.start)
    last = min(samples.stop, store.length(clip, "waveform"))
    if last > samples.start:
        stored = store.array(clip, "waveform", samples.start, last)
        found[: last - samples.start] = torch.from_numpy(stored.astype(np.float32) / 32768)
    return found


def choose_clips(clips: Sequence[Clip], split: str | None, limit: int | None) -> list[Clip]:
    """The clips to score.

    Args:
        clips: all clips of a store.
        split: ``"test"`` or ``"val"``; None takes ``test``, or ``val`` where a store has no test clips.
        limit: at most so many, spread evenly over the split; None takes all.

    Raises:
        TalkgenError: there is none.
    """
    wanted = (split,) if split else ("test", "val")
    chosen: list[Clip] = []
    for name in wanted:
        chosen = chosen or [clip for clip in clips if clip.split == name]
    if not chosen:
        counts = {name: sum(clip.split == name for clip in clips) for name in ("train", "val", "test")}
        there = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise TalkgenError(f"the store has no {' or '.join(wanted)} clips to score, it has {there}")
    if limit is not None and limit < len(chosen):
        if limit < 1:
            raise TalkgenError(f"clips={limit}: at least one clip must be scored")
        places = np.linspace(0, len(chosen) - 1, limit).round().astype(int)
        chosen = [chosen[place] for place in places]
    return chosen
