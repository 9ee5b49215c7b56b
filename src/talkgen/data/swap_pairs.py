"""Who is swapped with whom: targets, sources and labels of SwapTalk's face swapping module, as codes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from talkgen.data.clip import Clip
from talkgen.data.dataset import ClipWindows
from talkgen.data.latent_data import LatentData, LatentWindows
from talkgen.data.latents import IdentityEncoder, LatentCache, LatentEncoder
from talkgen.data.shards import CACHE_BYTES
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings, resize_warp
from talkgen.errors import TalkgenError

log = logging.getLogger(__name__)

KINDS = ("same", "teacher", "reverse", "free")  # `kind` of a sample is a place in here
SAME_CLIP_GAP = 5  # frames between target and source where a person has one clip only


@dataclass(frozen=True)
class SwapShares:
    """How often each kind of sample comes, relative to the others.

    Attributes:
        same: the source is the target's own person in another frame; the label is the target.
        teacher: the label is the target as a teacher swapped it.
        reverse: the teacher's picture is the target, and the real one the label (ReliableSwap's cycle), so
            that the teacher's faults are seen in inputs and never in labels.
        free: target and source are different people and nothing is the label.
    """

    same: float = 0.4
    teacher: float = 0.3
    reverse: float = 0.15
    free: float = 0.15

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        shares = dataclasses.astuple(self)
        if min(shares) < 0 or not sum(shares):
            raise ValueError(f"shares of samples must be at least 0, and not all 0, got {shares}")


class Picture(NamedTuple):
    """A frame of a clip."""

    clip: Clip
    frame: int


class Twins(NamedTuple):
    """A clip, and the same clip with another face."""

    real: Clip
    swapped: Clip


@dataclass(frozen=True)
class SwapPlan:
    """The pictures of a sample."""

    kind: int
    target: Picture
    source: Picture
    label: Picture


class SwapPairs(LatentWindows):
    """Samples of one target frame, one source frame and one label; an epoch goes through the target frames.

    `dataset[epoch, index]` depends on (seed, epoch, index) alone. Its keys: `target_codes`, `source_codes`,
    `label_codes` int64 `h w`; `kind` (place in `KINDS`); `target_warp` and `source_warp` float32 `2 3`, of
    which `target_warp` belongs to the label where there is one, because it is there that the face of the
    result lies; `source_identity` float32 `512`, the direction of the source's clip, zeros where no
    recogniser looked; `identity`, of the source; `clip`, `frame` of the target and `source_clip`,
    `source_frame`.

    Clips with `swap_of` are never targets or sources of `same` and `free`, and never sources at all: the
    face in them is a teacher's idea of a person. Sources of other kinds than `same` are other people than
    the target's.

    Args:
        store: where the clips are.
        clips: of one split, swapped ones among them.
        latents: their codes.
        shares: how often each kind comes. Kinds that the clips cannot give fall away (the log says so).
        sources: further clips that faces may come from, for swapped clips whose person has no clip of their
            own in the split.
        window: `size` and `stride` count (a target for every `stride` frames; None: for every frame).
        seed, identities, jitter, limit: see `ClipWindows`.

    Raises:
        TalkgenError: there is no unswapped clip, or no kind of sample can be made of the clips.
    """

    def __init__(
        self,
        store: Store,
        clips: Sequence[Clip],
        latents: LatentCache,
        shares: SwapShares | None = None,
        sources: Sequence[Clip] = (),
        window: WindowSettings | None = None,
        seed: int = 0,
        identities: Sequence[str] | None = None,
        jitter: bool = True,
        limit: int | None = None,
    ) -> None:
        window = window or WindowSettings()
        window = WindowSettings(frames=1, size=window.size, stride=window.stride, pictures=False, sound=False)
        real = [clip for clip in clips if clip.swap_of is None]
        if identities is None:
            identities = sorted({clip.identity for clip in [*clips, *sources]})
        super().__init__(store, real, latents, window, seed, identities, jitter, limit)
        self._people: dict[str, list[Clip]] = {}
        for clip in self.clips:
            self._people.setdefault(clip.identity, []).append(clip)
        self._own = sorted(self._people)  # people of the split
        lent = {clip.identity for clip in sources} - set(self._own)
        for clip in sources:
            if clip.identity in lent and clip.swap_of is None:
                self._people.setdefault(clip.identity, []).append(clip)
        self._everyone = sorted(self._people)
        by_id = {clip.id: clip for clip in self.clips}
        twins = [
            Twins(by_id[clip.swap_of], clip)
            for clip in clips
            if clip.swap_of is not None and clip.swap_of in by_id
        ]
        self._taught = [pair for pair in twins if pair.swapped.identity in self._people]
        self._reversible = [pair for pair in twins if self._has_another_view(pair.real)]
        possible = {
            "same": True,
            "teacher": bool(self._taught),
            "reverse": bool(self._reversible),
            "free": len(self._everyone) > 1,
        }
        wanted = dataclasses.asdict(shares or SwapShares())
        if missing := [kind for kind in KINDS if wanted[kind] and not possible[kind]]:
            log.warning(
                "%d clips of %d people have no samples of kind %s; the other kinds share what was theirs",
                len(clips), len(self._own), " or ".join(missing),
            )  # fmt: skip
        weights = np.array([wanted[kind] * possible[kind] for kind in KINDS])
        if not weights.sum():
            asked = " or ".join(kind for kind in KINDS if wanted[kind])
            raise TalkgenError(
                f"{len(clips)} clips of {len(self._own)} people give no samples of kind {asked}; "
                "teacher and reverse need swapped clips"
            )
        self.shares = weights / weights.sum()

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """The sample, or the error that keeps it from being read.

        Raises:
            FileError: its shard is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self.read_pair(self.plan(np.random.default_rng((self.seed, epoch, index)), index))

    def plan(self, rng: np.random.Generator, index: int) -> SwapPlan:
        """Choose the pictures of a sample."""
        kind = int(rng.choice(len(KINDS), p=self.shares))
        if KINDS[kind] in ("teacher", "reverse"):
            pairs = self._taught if KINDS[kind] == "teacher" else self._reversible
            pair = pairs[int(rng.integers(len(pairs)))]
            frame = int(rng.integers(min(pair.real.frames, pair.swapped.frames)))
            real, swapped = Picture(pair.real, frame), Picture(pair.swapped, frame)
            if KINDS[kind] == "teacher":
                return SwapPlan(kind, real, self._view(rng, pair.swapped.identity), swapped)
            return SwapPlan(kind, swapped, self._view(rng, pair.real.identity, real), real)
        clip, slot = self.locate(index)
        stride = self.window.stride or 1
        first = slot * stride
        target = Picture(
            clip, first + (int(rng.integers(min(stride, clip.frames - first))) if self.jitter else 0)
        )
        if KINDS[kind] == "same":
            return SwapPlan(kind, target, self._view(rng, clip.identity, target), target)
        others = [name for name in self._own if name != clip.identity]
        others = others or [name for name in self._everyone if name != clip.identity]
        return SwapPlan(kind, target, self._view(rng, others[int(rng.integers(len(others)))]), target)

    def read_pair(self, plan: SwapPlan) -> dict[str, Any]:
        """Read what a plan says."""
        source = plan.source.clip
        direction = (
            self.latents.identity(source.id) if self.latents.has_identities else np.zeros(512, np.float32)
        )
        return {
            "target_codes": self._codes(plan.target),
            "source_codes": self._codes(plan.source),
            "label_codes": self._codes(plan.label),
            "kind": plan.kind,
            "target_warp": self._warp(plan.label),
            "source_warp": self._warp(plan.source),
            "source_identity": direction,
            "identity": self._identity[source.identity],
            "clip": plan.target.clip.id,
            "frame": plan.target.frame,
            "source_clip": source.id,
            "source_frame": plan.source.frame,
        }

    def _codes(self, picture: Picture) -> np.ndarray:
        return self.latents.codes(picture.clip.id, picture.frame, picture.frame + 1)[0].astype(np.int64)

    def _warp(self, picture: Picture) -> np.ndarray:
        clip, frame = picture
        warp = self.store.array(clip, "identity_warp", frame, frame + 1)
        return resize_warp(warp, (self.window.size or clip.size) / clip.size)[0]

    def _has_another_view(self, clip: Clip) -> bool:
        """Whether its person is seen elsewhere than around one of its frames."""
        return len(self._people[clip.identity]) > 1 or clip.frames > 2 * SAME_CLIP_GAP

    def _view(self, rng: np.random.Generator, person: str, avoid: Picture | None = None) -> Picture:
        """A frame of a person: of another clip than `avoid`, else far from it in its clip, else any."""
        clips = self._people[person]
        if avoid is not None and len(clips) > 1:
            clips = [clip for clip in clips if clip.id != avoid.clip.id]
            avoid = None
        clip = clips[int(rng.integers(len(clips)))]
        frames = np.arange(clip.frames)
        if avoid is not None:
            far = frames[np.abs(frames - avoid.frame) >= SAME_CLIP_GAP]
            frames = far if len(far) else frames
        return Picture(clip, int(rng.choice(frames)))


class SwapData(LatentData):
    """Train, validation and test pairs of one store. Batches: see `SwapPairs` and docs/architecture.md.

    Faces of validation and test pairs come from their own split; where a swapped clip shows somebody who
    has no clip in it, from the training split.

    Args:
        shares: how often each kind of sample comes; default `SwapShares()`.
        window: `size` and `stride` count, see `SwapPairs`.
        root, encode, batch_size, workers, seed, val_batches, max_bad_fraction, drop_last, identify,
        latents_folder, encode_batch, cache, cache_gigabytes, also: see `LatentData`. The kinds are drawn in
        each store for itself: one without swapped clips gives the others.
    """

    def __init__(
        self,
        root: str,
        encode: Callable[[], LatentEncoder],
        shares: SwapShares | None = None,
        window: WindowSettings | None = None,
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        val_batches: int | None = None,
        max_bad_fraction: float = 0.01,
        drop_last: bool = False,
        identify: Callable[[], IdentityEncoder] | None = None,
        latents_folder: str | None = None,
        encode_batch: int | None = None,
        cache: str | None = None,
        cache_gigabytes: float = CACHE_BYTES / 2**30,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__(
            root, encode, window, batch_size, workers, seed, val_batches, max_bad_fraction, drop_last,
            identify, latents_folder, encode_batch, cache, cache_gigabytes, also=also,
        )  # fmt: skip
        self.shares = shares or SwapShares()

    def _windows(self, number: int, split: str, identities: Sequence[str], limit: int | None) -> ClipWindows:
        clips = self.stores[number].clips
        return SwapPairs(
            self.stores[number],
            clips.of_split(split),
            self._opened()[number],
            self.shares,
            sources=[] if split == "train" else clips.of_split("train"),
            window=self.window,
            seed=self.seed,
            identities=identities,
            jitter=split == "train",
            limit=limit,
        )
