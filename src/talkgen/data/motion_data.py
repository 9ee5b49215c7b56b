"""Motion and sound of a store for training: coefficients and audio features, never pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from talkgen.audio.frame_features import FrameFeatures
from talkgen.data.array_cache import ArrayCache
from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.dataset import ClipWindows
from talkgen.data.disentangled import Disentangled
from talkgen.data.shards import CACHE_BYTES
from talkgen.data.store import Store
from talkgen.data.windows import WindowPlan, WindowSettings
from talkgen.errors import TalkgenError
from talkgen.face3d.coefficients import EXPRESSION


class MotionWindows(ClipWindows):
    """Windows of motion with what each frame hears.

    A sample has `expression` float32 (t, 64), `rest` float32 (64,), the mean expression of its clip,
    `heard` float32 (t, dim), and `clip`, `identity`, `frame` as in `ClipWindows`.

    Args:
        store: where the clips are.
        clips: which of them.
        coefficients: float32 (frames, 257) of each.
        heard: float32 (frames, dim) of each.
        window: only `frames` and `stride` matter.
        seed, identities, jitter, limit: see `ClipWindows`.
    """

    def __init__(
        self,
        store: Store,
        clips: Sequence[Clip],
        coefficients: ArrayCache,
        heard: ArrayCache,
        window: WindowSettings,
        seed: int = 0,
        identities: Sequence[str] | None = None,
        jitter: bool = True,
        limit: int | None = None,
    ) -> None:
        super().__init__(store, clips, window, seed, identities, jitter, limit)
        self.coefficients = coefficients
        self.heard = heard
        self._rest: dict[str, np.ndarray] = {}

    def read(self, clip: Clip, plan: WindowPlan) -> dict[str, Any]:
        """Read what a plan says."""
        start, stop = plan.start, plan.start + self.window.frames
        return {
            "expression": self.coefficients.array(clip.id, start, stop)[:, EXPRESSION],
            "rest": self._rest_of(clip),
            "heard": self.heard.array(clip.id, start, stop),
            "clip": clip.id,
            "identity": self._identity[clip.identity],
            "frame": start,
        }

    def _rest_of(self, clip: Clip) -> np.ndarray:
        if clip.id not in self._rest:
            self._rest[clip.id] = self.coefficients.array(clip.id)[:, EXPRESSION].mean(0)
        return self._rest[clip.id]


class MotionData(TalkingFaceData):
    """Train, validation and test windows of motion. Batches: see `MotionWindows` and docs/architecture.md.

    Coefficients come from the folder that `talkgen disentangle` made of the same store; what is missing of
    the features is computed in `prepare_data`. Clips that repeat another performance with a swapped face are
    left out. Order, resuming and distributed training are those of `TalkingFaceData`.

    Args:
        root: folder or URL of a prepared store.
        disentangled: folder of `talkgen disentangle`.
        features: what a frame hears.
        window: `frames` and `stride` count.
        languages: of the clips that are used, such as `[en]`; None: all.
        batch_size, workers, seed, val_batches, max_bad_fraction, drop_last, cache, cache_gigabytes,
        windows_per_clip: see `TalkingFaceData`.
    """

    def __init__(
        self,
        root: str,
        disentangled: str,
        features: FrameFeatures,
        window: WindowSettings | None = None,
        languages: Sequence[str] | None = None,
        batch_size: int = 16,
        workers: int = 0,
        seed: int = 0,
        val_batches: int | None = None,
        max_bad_fraction: float = 0.01,
        drop_last: bool = False,
        cache: str | None = None,
        cache_gigabytes: float = CACHE_BYTES / 2**30,
        windows_per_clip: int = 1,
    ) -> None:
        given = window or WindowSettings(frames=100)
        window = WindowSettings(given.frames, stride=given.stride, pictures=False, sound=False)
        super().__init__(
            root, window, batch_size, workers, seed, val_batches, max_bad_fraction, drop_last,
            cache=cache, cache_gigabytes=cache_gigabytes, windows_per_clip=windows_per_clip,
        )  # fmt: skip
        self.disentangled = disentangled
        self.features = features
        self.languages = None if languages is None else tuple(languages)
        self._caches: tuple[ArrayCache, ArrayCache] | None = None

    def prepare_data(self) -> None:
        """Compute what is missing of coefficients and features, with a bar."""
        self._caches = self._opened()

    def _opened(self) -> tuple[ArrayCache, ArrayCache]:
        if self._caches is None:
            folder = Disentangled(self.disentangled)
            self._caches = folder.coefficients(self.store), folder.heard(self.store, self.features)
        return self._caches

    def clips(self, split: str) -> Sequence[Clip]:
        """Clips of a split that are used."""
        clips = self.store.clips.of_split(split).unswapped()
        if self.languages is None:
            return clips
        return [clip for clip in clips if clip.language in self.languages]

    def state_dict(self) -> dict[str, Any]:
        """Which coefficients and features a run was trained on."""
        return {"motion": [cache.key for cache in self._opened()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with others, which would mean something else to a network.

        Raises:
            TalkgenError: they have changed since the checkpoint.
        """
        if state_dict["motion"] != self.state_dict()["motion"]:
            raise TalkgenError(
                f"coefficients or features in {self.disentangled} are not those that the run was trained on. "
                "Delete the run, or give the new one another name (name=…)"
            )

    def _windows(self, number: int, split: str, identities: Sequence[str], limit: int | None) -> ClipWindows:
        coefficients, heard = self._opened()
        return MotionWindows(
            self.stores[number],
            self.clips(split),
            coefficients,
            heard,
            self.window,
            self.seed,
            identities,
            jitter=split == "train",
            limit=limit,
        )
