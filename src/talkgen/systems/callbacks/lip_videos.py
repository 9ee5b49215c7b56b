"""What a generator of lips makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.audio.alignment import mel_windows, per_frame_mel_window
from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.latent_data import LatentData
from talkgen.data.windows import as_model, as_uint8, resize_frames
from talkgen.systems.callbacks.clip_videos import CHUNK, ClipVideos, write_beside


class MovesLips(Protocol):
    """A system that can show what it does."""

    def sample(self, target: torch.Tensor, reference: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Target and references as the system's data hold them (codes ``(t, h, w)`` and ``(r, h, w)``, or
        pictures ``(t, 3, h, w)`` and ``(r, 3, h, w)`` in [-1, 1]), mels ``(t, 1, 80, 16)`` → pictures.
        """


@dataclass(frozen=True)
class Shown:
    """What a system is shown of a clip, and what is compared with its answer.

    Attributes:
        target: codes or pictures of the first frames.
        reference: the same of frames from the rest of the clip, where there is one.
        truth: uint8 ``(t, size, size, 3)``, the first frames.
        piece: frames that the system takes at a time.
    """

    target: torch.Tensor
    reference: torch.Tensor
    truth: NDArray[np.uint8]
    piece: int


class LipVideos(ClipVideos):
    """Ground truth | lips from its own sound | from the next clip's.

    The sound of the file is the clip's own: the picture in the middle should agree with it, the one on the
    right should not. (A swapped clip would have the sound of its original, which is no other sound.) For
    systems that hear ``mel_per_frame``.
    """

    def write(self, data: TalkingFaceData, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        """Truth, and the lips from both sounds."""
        count = self.frames(clip)
        shown = show_codes(data, clip, count) if isinstance(data, LatentData) else show(data, clip, count)
        count = len(shown.truth)
        heard = [torch.from_numpy(mels(data, who, count)).to(system.device) for who in (clip, other)]
        target, reference = shown.target.to(system.device), shown.reference.to(system.device)

        def rows() -> Iterator[tuple[NDArray[np.uint8], ...]]:
            for start in range(0, count, shown.piece):
                part = slice(start, start + shown.piece)
                made = [as_uint8(system.sample(target[part], reference, mel[part])) for mel in heard]
                yield from zip(shown.truth[part], *(row.cpu().numpy() for row in made), strict=True)

        write_beside(file, data.store, clip, count, rows())


def show_codes(data: LatentData, clip: Clip, count: int) -> Shown:
    """Codes of the first frames, in whole windows; references from all over the clip."""
    window = data.window.frames
    count = count // window * window

    def codes(frames: list[int]) -> torch.Tensor:
        return torch.from_numpy(data.latents.codes_at(clip.id, frames).astype(np.int64))

    truth = resize_frames(data.store.frames(clip, 0, count), data.latents.size)
    return Shown(codes(list(range(count))), codes(_references(data, clip, 0)), truth, window)


def show(data: TalkingFaceData, clip: Clip, count: int) -> Shown:
    """Pictures of the first frames; references from the rest of the clip, where there is enough of it."""
    size = data.window.size or data.store.size
    rest = count if clip.frames - count >= data.window.reference_frames else 0
    reference = resize_frames(data.store.frames_at(clip, _references(data, clip, rest)), size)
    truth = resize_frames(data.store.frames(clip, 0, count), size)
    pictures, references = (as_model(torch.from_numpy(frames)) for frames in (truth, reference))
    return Shown(pictures, references, truth, CHUNK)


def _references(data: TalkingFaceData, clip: Clip, first: int) -> list[int]:
    places = np.linspace(first, clip.frames - 1, max(1, data.window.reference_frames) + 2)[1:-1]
    return [round(place) for place in places]


def mels(data: TalkingFaceData, clip: Clip, frames: int) -> NDArray[np.float32]:
    """Mel windows ``(frames, 1, 80, 16)`` of the first frames of a clip, as batches hold them."""
    convention = data.window.mel_per_frame_convention
    starts = [per_frame_mel_window(frame, clip.fps, convention).start for frame in range(frames)]
    return mel_windows(data.store.array(clip, "mel"), starts)[:, None]
