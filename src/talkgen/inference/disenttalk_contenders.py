"""Rows of a table that DisentTalk makes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.data.clip import Clip
from talkgen.data.clip_preparation import LandmarkFitter
from talkgen.data.coefficient_cache import store_crop
from talkgen.data.store import Store
from talkgen.face3d.model_files import open_morphable_model
from talkgen.inference.contenders import Casting, middle
from talkgen.inference.motion_renderer import FaceRenderer
from talkgen.metrics.contenders import Generated
from talkgen.metrics.exact_motion import ExactMotion
from talkgen.metrics.held_out import HeldOutClips

if TYPE_CHECKING:
    from talkgen.inference.motion import MotionGenerator

TRUTH, SOUNDS = "truth_coefficients", "truth_phoneme"
"""Streams of the demo corpus: what its people were made to do, and what they say."""
MODEL = "demo"
"""The morphable model that its people were made with."""


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
    evaluations = 1

    def __init__(self, name: str, renderer: FaceRenderer, coefficients: ClipCoefficients) -> None:
        self.name = name
        self.renderer = renderer
        self.coefficients = coefficients

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Pictures of the clip's motion."""
        motion = self.coefficients(clips.clips[number])[: clips.frame_count(number)]
        exact = exact_motion(self.coefficients, clips.clips[number], motion)
        for start, stop, made in _spans(clips, number, self.renderer, motion[0], motion):
            yield Generated(made, motion=_part(exact, start, stop))


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

    @property
    def evaluations(self) -> int:
        """Of the motion's network for each window of frames; guidance asks it twice."""
        motion = self.motion
        calls = len(motion.sampler.timesteps(motion.motion.diffusion.schedule))
        return calls * (2 if motion.guidance.active else 1)

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Generated frames."""
        clip, count = clips.clips[number], clips.frame_count(number)
        own = self.coefficients(clip)
        heard = self.casting.sound(number, 0, count) if self.sound == "other" else None
        waveform = clips.waveform(number) if heard is None else heard.numpy()
        features = self.motion.hear(waveform, count)
        motion = self.motion.generate(features, own[0], eye="sampled", pose=own[:count], seed=number)
        said = self.casting.other_sound(number) if self.sound == "other" else clip
        exact = exact_motion(self.coefficients, said, motion, middle(said) if self.sound == "other" else 0)
        for start, stop, made in _spans(clips, number, self.renderer, own[0], motion):
            drove = self.casting.sound(number, start, stop) if self.sound == "other" else None
            yield Generated(made, sound=drove, motion=_part(exact, start, stop))


def exact_motion(
    coefficients: ClipCoefficients, clip: Clip, generated: NDArray[np.float32], first: int = 0
) -> ExactMotion | None:
    """Motion beside that of the clip whose sound drove it, as far as both go.

    Args:
        coefficients: of the clips.
        clip: whose sound drove.
        generated: motion (t, 257).
        first: frame of that clip whose sound came first; the frames before it came last.

    None where the corpus does not know it, or where it is that of another morphable model.
    """
    store = coefficients.store
    if coefficients.fitter.sha256 != _digest(MODEL) or not store.has(clip, TRUTH):
        return None
    length = store.length(clip, TRUTH)
    count = min(len(generated), length)
    truth = torch.from_numpy(store.array(clip, TRUTH, 0, length)).roll(-first, 0)[:count]
    sounds = None
    if store.has(clip, SOUNDS):
        sounds = torch.from_numpy(store.array(clip, SOUNDS, 0, length).astype(np.int64)).roll(-first)[:count]
    return ExactMotion(MODEL, torch.from_numpy(generated[:count]), truth, sounds)


@lru_cache(maxsize=1)
def _digest(model: str) -> str:
    return open_morphable_model(model).sha256()


def _part(motion: ExactMotion | None, start: int, stop: int) -> ExactMotion | None:
    """Of some frames; None where it does not reach as far."""
    if motion is None or stop > len(motion.truth):
        return None

    def cut(track: Tensor) -> Tensor:
        return track[start:stop]

    sounds = None if motion.sounds is None else cut(motion.sounds)
    return ExactMotion(motion.model, cut(motion.generated), cut(motion.truth), sounds)


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
