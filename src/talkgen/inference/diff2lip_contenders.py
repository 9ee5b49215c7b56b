"""Rows of a table that Diff2Lip makes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from talkgen.data.windows import resize_frames
from talkgen.inference.contenders import Casting, Sound
from talkgen.inference.diff2lip import Diff2Lip
from talkgen.inference.reference_frames import APART_SECONDS, two_references
from talkgen.metrics.contenders import Generated
from talkgen.metrics.held_out import HeldOutClips


class Diff2LipRow:
    """Diff2Lip on the clips, whose lower halves it never sees; what it makes is put into them at their own
    size, as in use.

    Args:
        name: of the row.
        model: the network and how it is used.
        casting: sounds of other clips.
        sound: the clip's ``"own"`` or that of an ``"other"`` one.
    """

    in_video = True

    def __init__(self, name: str, model: Diff2Lip, casting: Casting, sound: Sound) -> None:
        self.name = name
        self.model = model
        self.casting = casting
        self.sound = sound

    @property
    def evaluations(self) -> int:
        """Of the network, for each frame."""
        return len(self.model.sampler.timesteps(self.model.diffusion.schedule))

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Generated frames; the rows above the mask are the clip's own to the bit."""
        clip, store = clips.clips[number], clips.store
        mel = self.casting.mel(number, self.sound)
        # as in use: no frame is shown its own lips, or those of its neighbours
        pair, which = two_references(np.arange(clip.frames), APART_SECONDS * clip.fps)
        references = resize_frames(store.frames_at(clip, pair), clips.size)
        for start, stop in clips.spans(number):
            numbers = range(start, stop)
            target = clips.frames(number, start, stop).numpy()
            sounds = self.model.mel_of_frames(mel, numbers, clip.fps)
            small = self.model.pictures(target, references[which[start:stop]], sounds, numbers)
            top = clips.size * self.model.top // self.model.size
            frames = target.copy()
            frames[:, top:] = resize_frames(small, clips.size)[:, top:]
            made = torch.from_numpy(frames)
            other = self.casting.sound(number, start, stop) if self.sound == "other" else None
            yield Generated(made, sound=other)
