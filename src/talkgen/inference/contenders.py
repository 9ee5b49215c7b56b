"""Rows of a table that trained models make."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from talkgen.audio.alignment import MEL_STEPS_PER_SECOND, sample_range
from talkgen.data.clip import Clip
from talkgen.data.windows import as_model, as_uint8, resize_frames, resize_warp
from talkgen.inference.cascade import SwapTalk
from talkgen.metrics.contenders import Generated
from talkgen.metrics.footage import CodeIndices
from talkgen.metrics.held_out import HeldOutClips, sound_of
from talkgen.models.vqgan.vqgan import VQGAN

Sound = Literal["own", "other"]


class VQGANReconstruction:
    """A VQGAN that encodes and decodes each frame.

    Args:
        name: of the row.
        vqgan: the network.
        device: where it runs.
        batch_frames: frames that it sees at a time.
    """

    in_video = True

    def __init__(self, name: str, vqgan: VQGAN, device: str, batch_frames: int) -> None:
        self.name = name
        self.vqgan = vqgan.to(device)
        self.device = device
        self.batch_frames = batch_frames

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Reconstructions and the codes of both halves."""
        for start, stop in clips.spans(number):
            frames, codes = [], []
            for batch in clips.frames(number, start, stop).split(self.batch_frames):
                images = as_model(batch.to(self.device))
                with torch.inference_mode():
                    output = self.vqgan(images)
                frames.append(as_uint8(output.reconstruction.cpu()))
                codes.append(output.codes.cpu())
            yield Generated(torch.cat(frames), code_halves(torch.cat(codes), self.vqgan.quantize.codes))


def code_halves(codes: Tensor, size: int) -> dict[str, CodeIndices]:
    """Codes (t, h, w) of both halves, each with the size of its codebook."""
    upper, lower = codes.chunk(2, dim=1)
    return {"upper": CodeIndices(upper, size), "lower": CodeIndices(lower, size)}


def middle(clip: Clip) -> int:
    """Frame (from 0) at which the sound of a clip begins where it stands for a wrong one."""
    return clip.frames // 2


class Casting:
    """Who plays whom: for each clip that is scored, the source of a swap, its exact result where that is
    known, the sound of another clip, and the reference frames.

    - Source: whoever is seen in the clip's exact swap (``swap_of``); else the next of the ``people``.
    - Picture of a person: the middle frame of one of the person's own clips, one that is not scored if
      possible.
    - Other sound: that of the next scored clip whose speaker is another person, from its middle on and then
      from its beginning to there. Clips that begin and end alike, as those of the demo corpus do in silence,
      would otherwise have a perfect model follow the truth with a wrong sound, too.
    - References: frames that are not scored, where a clip has such; else spread over the clip.

    Args:
        clips: what is scored; unswapped clips.
        people: identities that a swap may take its face from.
    """

    def __init__(self, clips: HeldOutClips, people: list[str]) -> None:
        self.clips = clips
        self.people = people
        self._twins = {clip.swap_of: clip for clip in clips.store.clips if clip.swap_of}
        self._exact = lru_cache(maxsize=1)(self._read_exact)
        self._other_waveform = lru_cache(maxsize=1)(self._read_other_waveform)

    def twin(self, number: int) -> Clip | None:
        """The clip with the same performance and another face, if there is one."""
        return self._twins.get(self.clips.clips[number].id)

    def source(self, number: int) -> str:
        """Identity that a swap of the clip shall show."""
        twin = self.twin(number)
        if twin is not None:
            return twin.identity
        own = self.clips.clips[number].identity
        others = [person for person in self.people if person != own]
        if not others:
            return own
        # The next one after the clip's own person, and another for each of the person's clips.
        first = self.people.index(own) + number if own in self.people else number
        return others[first % len(others)]

    def picture(self, person: str) -> tuple[Clip, int]:
        """Clip and frame of the picture of a person."""
        own = [one for one in self.clips.store.clips if one.identity == person and not one.swap_of]
        own = own or [one for one in self.clips.store.clips if one.identity == person]
        scored = {clip.id for clip in self.clips.clips}
        clip = next((one for one in own if one.id not in scored), own[-1])
        return clip, clip.frames // 2

    def aligned_picture(self, person: str) -> tuple[Tensor, NDArray[np.float32]]:
        """The picture of a person at the size of the clips, uint8 (1, size, size, 3), and the matrix
        (1, 2, 3) from its pixels to the ArcFace template.
        """
        clip, frame = self.picture(person)
        size, store = self.clips.size, self.clips.store
        stored = resize_frames(store.frames(clip, frame, frame + 1), size)
        warp = resize_warp(store.array(clip, "identity_warp", frame, frame + 1), size / clip.size)
        return torch.from_numpy(stored), warp

    def other_sound(self, number: int) -> Clip:
        """A clip whose sound is not that of the clip; the clip itself where there is no other."""
        scored, own = self.clips.clips, self.clips.clips[number]
        later = [*scored[number + 1 :], *scored[:number]]
        strangers = [clip for clip in later if clip.identity != own.identity]
        return next(iter([*strangers, *later]), own)

    def mel(self, number: int, sound: Sound) -> NDArray[np.float32]:
        """The mel spectrogram (80, columns) that a clip hears."""
        clip = self.clips.clips[number] if sound == "own" else self.other_sound(number)
        mel = self.clips.store.array(clip, "mel")
        if sound == "own":
            return mel
        return np.roll(mel, -round(middle(clip) / clip.fps * MEL_STEPS_PER_SECOND), axis=1)

    def sound(self, number: int, start: int, stop: int) -> Tensor | None:
        """What :meth:`other_sound` gives frames of a clip to hear, float32 in [-1, 1] at 16 kHz.

        Silence beyond its end; None where a store has no sound.
        """
        whole, fps = self._other_waveform(number), self.clips.clips[number].fps
        if whole is None:
            return None
        samples = sample_range(start, stop - start, fps)
        part = whole[samples.start : samples.stop]
        return F.pad(part, (0, samples.stop - samples.start - len(part)))

    def _read_other_waveform(self, number: int) -> Tensor | None:
        clip = self.other_sound(number)
        sound = sound_of(self.clips.store, clip, 0, clip.frames)
        return None if sound is None else sound.roll(-sample_range(0, middle(clip), clip.fps).stop)

    def references(self, number: int, count: int) -> list[int]:
        """Numbers of ``count`` frames of the clip."""
        first, last = self.clips.frame_count(number), self.clips.clips[number].frames
        if last - first < count:
            first = 0
        step = (last - first) / (count + 1)
        return [min(first + round(step * (place + 1)), last - 1) for place in range(count)]

    def exact(self, number: int, start: int, stop: int) -> Tensor | None:
        """Frames of the exact swap, uint8 (t, size, size, 3); None where it is not known."""
        return self._exact(number, start, stop)

    def _read_exact(self, number: int, start: int, stop: int) -> Tensor | None:
        twin = self.twin(number)
        if twin is None or twin.frames < stop:
            return None
        return torch.from_numpy(resize_frames(self.clips.store.frames(twin, start, stop), self.clips.size))


class ClipCodes:
    """Codes of what is scored, which all rows of a model share.

    Args:
        model: encodes.
        clips: what is scored.
    """

    def __init__(self, model: SwapTalk, clips: HeldOutClips) -> None:
        self.model = model
        self.clips = clips
        self.piece = lru_cache(maxsize=1)(self._piece)
        self.frames = lru_cache(maxsize=8)(self._frames)

    def _piece(self, number: int, start: int, stop: int) -> Tensor:
        return self.model.encode(self.clips.frames(number, start, stop).numpy())

    def _frames(self, clip_id: str, numbers: tuple[int, ...]) -> Tensor:
        store = self.clips.store
        return self.model.encode(
            resize_frames(store.frames_at(store.clip(clip_id), numbers), self.clips.size)
        )


class CopiedMouth:
    """The lower half of a reference frame in every frame: what a model that does not listen would give.

    Args:
        casting: chooses the reference.
    """

    name = "reference's mouth copied"
    in_video = False

    def __init__(self, casting: Casting) -> None:
        self.casting = casting

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """The target's upper halves over one lower half."""
        numbers = self.casting.references(number, 1)
        stored = clips.store.frames_at(clips.clips[number], numbers)
        (reference,) = torch.from_numpy(resize_frames(stored, clips.size))
        half = clips.size // 2
        for start, stop in clips.spans(number):
            frames = clips.frames(number, start, stop).clone()
            frames[:, half:] = reference[half:]
            yield Generated(frames)


class ExactSwap:
    """The exact result of each swap that is known: what a perfect face swap would score.

    Args:
        name: of the row.
        casting: knows the results.
    """

    in_video = True

    def __init__(self, name: str, casting: Casting) -> None:
        self.name = name
        self.casting = casting

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """The exact result; the clip itself, not scored, where it is not known."""
        person = self.casting.source(number)
        for start, stop in clips.spans(number):
            exact = self.casting.exact(number, start, stop)
            if exact is None:
                yield Generated(clips.frames(number, start, stop), scored=False)
            else:
                yield Generated(exact, truth=exact, person=person)


class SwapTalkRow:
    """SwapTalk, or one of its modules, on the codes of the clips.

    Args:
        name: of the row.
        model: in the cascade of the row.
        codes: of the clips, by the same VQGAN.
        casting: sources, sounds, references.
        sound: ``"own"`` or that of an ``"other"`` clip; None leaves the lips alone.
        swap: whether the source's face is put in.
        in_video: whether the sample video shows it.
    """

    evaluations = 1  # each network sees a frame once

    def __init__(
        self,
        name: str,
        model: SwapTalk,
        codes: ClipCodes,
        casting: Casting,
        sound: Sound | None,
        swap: bool,
        in_video: bool = True,
    ) -> None:
        self.name = name
        self.model = model.variant(model.cascade, swap=swap, sync=sound is not None)
        self.codes = codes
        self.casting = casting
        self.sound = sound
        self.swap = swap
        self.in_video = in_video

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        """Generated frames; of a swap with its exact result where that is known."""
        clip = clips.clips[number]
        person, source, reference, mel = clip.identity, None, None, None
        if self.swap:
            person = self.casting.source(number)
            picture, frame = self.casting.picture(person)
            source = self.codes.frames(picture.id, (frame,))
        if self.sound is not None:
            mel = self.casting.mel(number, self.sound)
            numbers = tuple(self.casting.references(number, self.model.references))
            reference = self.codes.frames(clip.id, numbers)
        state = self.model.begin(source, reference)
        for start, stop in clips.spans(number):
            codes = self.codes.piece(number, start, stop)
            sounds = None if mel is None else self.model.mel_of_frames(mel, range(start, stop), clip.fps)
            made = torch.from_numpy(self.model.pictures(codes, sounds, state))
            drove = self.casting.sound(number, start, stop) if self.sound == "other" else None
            if not self.swap:
                yield Generated(made, sound=drove)
                continue
            exact = self.casting.exact(number, start, stop)
            yield Generated(made, truth=exact, truth_known=exact is not None, person=person, sound=drove)
