"""Pairs of frames of one clip with the motion around each: what a renderer is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from talkgen.data.array_cache import ArrayCache
from talkgen.data.clip import Clip
from talkgen.data.clip_preparation import LandmarkFitter
from talkgen.data.coefficient_cache import fit_store
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.dataset import ClipWindows
from talkgen.data.store import Store
from talkgen.data.windows import WindowPlan, WindowSettings, resize_points
from talkgen.errors import FileError, TalkgenError


class MotionPairs(ClipWindows):
    """Samples of two frames of one clip, drawn apart from each other (PIRenderer, section 4.1).

    Keys: `video` uint8 `2 h w 3`, `landmarks` float32 `2 68 2`, `coefficients` float32
    `2 (2 · radius + 1) 257` of the frames around either, the clip's ends repeated; `frames` int64 `2`;
    `identity`, `clip`, `frame`. Clips with `swap_of` are left out: a swap is another motion's picture.

    Args:
        store: where the clips are.
        clips: which of them.
        coefficients: of every clip.
        radius: frames before and after a frame.
        window: `size`, `stride` (a pair for every `stride` frames) and `reference_gap` (least distance of the
            two frames, less one) count.
        seed, identities, jitter, limit, ram_bytes: see `ClipWindows`.
    """

    def __init__(
        self,
        store: Store,
        clips: Sequence[Clip],
        coefficients: ArrayCache,
        radius: int,
        window: WindowSettings,
        seed: int = 0,
        identities: Sequence[str] | None = None,
        jitter: bool = True,
        limit: int | None = None,
        ram_bytes: int = 0,
    ) -> None:
        window = WindowSettings(
            frames=1, size=window.size, stride=window.stride, reference_frames=1,
            reference_gap=window.reference_gap, sound=False,
        )  # fmt: skip
        own = [clip for clip in clips if clip.swap_of is None]
        super().__init__(store, own, window, seed, identities, jitter, limit, ram_bytes)
        self.coefficients = coefficients
        self.radius = radius

    def read(self, clip: Clip, plan: WindowPlan) -> dict[str, Any]:
        """Read what a plan says."""
        frames = [plan.start, *plan.references]
        scale = (self.window.size or clip.size) / clip.size
        around = np.arange(-self.radius, self.radius + 1)
        motion = self.coefficients.array(clip.id)
        landmarks = self.store.array(clip, "landmarks")[frames]
        return {
            "video": self._frames(clip, frames),
            "landmarks": resize_points(landmarks, scale),
            "coefficients": motion[np.clip(np.add.outer(frames, around), 0, clip.frames - 1)],
            "frames": np.array(frames, np.int64),
            "identity": self._identity[clip.identity],
            "clip": clip.id,
            "frame": plan.start,
        }


class MotionPairData(TalkingFaceData):
    """Train, validation and test pairs of one store. Batches: see `MotionPairs`.

    Args:
        coefficients: folder of the coefficients of every clip. Where it has none yet, `prepare_data` makes
            them (`coefficient_cache.fit_store`).
        fitter: makes what fits them; None: they must be there.
        radius: frames before and after a frame.
        root, window, batch_size, workers, seed, val_batches, max_bad_fraction, drop_last, ram_megabytes,
        cache: see `TalkingFaceData`.
    """

    def __init__(
        self,
        root: str,
        coefficients: str,
        fitter: Callable[[], LandmarkFitter] | None = None,
        radius: int = 13,
        window: WindowSettings | None = None,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        val_batches: int | None = None,
        max_bad_fraction: float = 0.01,
        drop_last: bool = False,
        ram_megabytes: int = 0,
        cache: str | None = None,
    ) -> None:
        super().__init__(
            root, window, batch_size, workers, seed, val_batches, max_bad_fraction, drop_last, ram_megabytes,
            cache,
        )  # fmt: skip
        self.folder = Path(coefficients)
        self.fitter = fitter
        self.radius = radius

    def prepare_data(self) -> None:
        """Fit the clips that have no coefficients yet."""
        if self.fitter is not None and not (self.folder / "cache.json").is_file():
            fit_store(self.folder, self.store, self.fitter())

    @cached_property
    def coefficients(self) -> ArrayCache:
        """Of every clip.

        Raises:
            TalkgenError: there are none, or they are of another corpus.
        """
        cache = ArrayCache.open(self.folder)
        if missing := [clip.id for clip in self.store.clips if clip.id not in cache]:
            raise FileError(self.folder, f"has no coefficients of clip {missing[0]}; delete the folder")
        return cache

    def sampled_coefficients(self, clips: int = 200) -> np.ndarray:
        """Coefficients float32 (n, 257) of training clips, spread over the split; for their statistics.

        Raises:
            TalkgenError: there is no training clip.
        """
        chosen = self.clips("train")
        if not chosen:
            raise TalkgenError(f"{self.root} has no training clip")
        places = np.linspace(0, len(chosen) - 1, min(clips, len(chosen))).round().astype(int)
        return np.concatenate([self.coefficients.array(chosen[place].id) for place in places])

    def _windows(self, number: int, split: str, identities: Sequence[str], limit: int | None) -> ClipWindows:
        return MotionPairs(
            self.stores[number],
            self.stores[number].clips.of_split(split),
            self.coefficients,
            self.radius,
            self.window,
            self.seed,
            identities,
            jitter=split == "train",
            limit=limit,
            ram_bytes=self.ram_megabytes * 2**20,
        )
