"""Rows of a table that DisentTalk makes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.data.clip import Clip
from talkgen.data.clip_preparation import LandmarkFitter
from talkgen.data.coefficient_cache import store_crop
from talkgen.data.store import Store
from talkgen.inference.contenders import Casting
from talkgen.inference.motion_renderer import FaceRenderer
from talkgen.metrics.contenders import Generated
from talkgen.metrics.held_out import HeldOutClips

if TYPE_CHECKING:
    from talkgen.inference.motion import MotionGenerator


class ClipCoefficients:
    """Coefficients of the clips that are scored, fitted to the store's landmarks; shared by all rows.

    Args:
        store: where the clips are.
        fitter: of the morphable model that the method was trained with.
    """

    def __init__(self, store: Store, fitter: LandmarkFitter) -> None:
        self.store = store
        self.fitter = fitter
        self._of = lru_cache(maxsize=64)(self._fit)

    def __call__(self, clip: Clip) -> NDArray[np.float32]:
        """Float32 (frames, 257) of a whole clip; not to be written to."""
        return self._of(clip.id)

    def _fit(self, clip_id: str) -> NDArray[np.float32]:
        clip = self.store.clip(clip_id)
        made = self.fitter(self.store.array(clip, "landmarks"), store_crop(self.store, clip))
        return np.asarray(made, np.float32)


class RenderedClip:
    """The clip's first frame, moved by the clip's own coefficients: what the renderer alone costs.

    Args:
        name: of the row.
        renderer: coefficients → pictures.
        coefficients: of the clips.
    """

    in_video = True

    def __init__(self, name: str, renderer: FaceRenderer, coefficients: ClipCoefficients) -> None:
        self.name = name
        self.renderer = renderer
        self.coefficients = coefficients

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Pictures of the clip's motion."""
        motion = self.coefficients(clips.clips[number])[: clips.frame_count(number)]
        for _, _, made in _spans(clips, number, self.renderer, motion[0], motion):
            yield Generated(made)


class DisentTalkRow:
    """The clip's first frame, moved by what is generated from a sound, with the clip's own head pose.

    Args:
        name: of the row.
        motion: sound → coefficients.
        renderer: coefficients → pictures.
        coefficients: of the clips.
        casting: whose sound.
        sound: ``"own"`` or that of an ``"other"`` clip.
    """

    in_video = True

    def __init__(
        self,
        name: str,
        motion: MotionGenerator,
        renderer: FaceRenderer,
        coefficients: ClipCoefficients,
        casting: Casting,
        sound: Literal["own", "other"] = "own",
    ) -> None:
        self.name = name
        self.motion = motion
        self.renderer = renderer
        self.coefficients = coefficients
        self.casting = casting
        self.sound = sound

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Generated frames."""
        clip, count = clips.clips[number], clips.frame_count(number)
        own = self.coefficients(clip)
        heard = self.casting.sound(number, 0, count) if self.sound == "other" else None
        waveform = clips.waveform(number) if heard is None else heard.numpy()
        features = self.motion.hear(waveform, count)
        motion = self.motion.generate(features, own[0], eye="sampled", pose=own[:count], seed=number)
        for start, stop, made in _spans(clips, number, self.renderer, own[0], motion):
            drove = self.casting.sound(number, start, stop) if self.sound == "other" else None
            yield Generated(made, sound=drove)


def _spans(
    clips: HeldOutClips,
    number: int,
    renderer: FaceRenderer,
    start: NDArray[np.float32],
    motion: NDArray[np.float32],
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """The clip's first frame, which has the coefficients ``start``, moved; in the pieces of the clip."""
    source = clips.frames(number, *next(clips.spans(number)))[0].numpy()
    frames = renderer.clip(source, start, motion)
    for first, last in clips.spans(number):
        yield first, last, torch.from_numpy(np.stack([next(frames) for _ in range(first, last)]))
