"""A trained renderer in use: a source picture and coefficients, all at once or as they come, to frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.data.windows import as_model, as_uint8
from talkgen.inference.mesh_preview import MeshPreview
from talkgen.models.pirender.mapping import RADIUS
from talkgen.models.pirender.motion_window import edge_padded, renderer_motion
from talkgen.models.pirender.pirenderer import PIRenderer

MOTION_FPS = 25.0
"""Frames a second of coefficients."""


class FaceRenderer(Protocol):
    """What makes pictures of coefficients. Pictures are uint8 (size, size, 3); ``start`` are the coefficients
    ``(257,)`` of the source's."""

    size: int

    def clip(
        self,
        source: NDArray[np.uint8],
        start: NDArray[np.float32],
        coefficients: NDArray[np.float32],
        fps: float = MOTION_FPS,
    ) -> Iterator[NDArray[np.uint8]]:
        """Frames of a clip's coefficients ``(n, 257)``, one at a time, at any frame rate."""
        ...

    def stream(
        self,
        source: NDArray[np.uint8],
        start: NDArray[np.float32],
        rows: Iterable[NDArray[np.float32]],
    ) -> Iterator[NDArray[np.uint8]]:
        """A frame for each row of coefficients ``(257,)``, as soon as it can be made."""
        ...


class MotionRenderer:
    """PIRenderer in use.

    What a frame looks like depends on the motion of the 13 frames before and after it, whose descriptors are
    computed for a whole clip at once; pictures are made so many at a time, so that memory does not grow with
    a clip's length.

    Args:
        network: trained.
        size: pixels of its pictures.
        device: where it runs.
        batch_frames: pictures at a time.
        bf16: compute pictures in bfloat16; motion stays in float32.
        ahead: frames of motion that ``stream`` waits for before it makes a frame, at most 13; where they are
            fewer, the last one is taken for those that are not there yet, as at the end of a clip.
    """

    def __init__(
        self,
        network: PIRenderer,
        size: int,
        device: str = "cpu",
        batch_frames: int = 16,
        bf16: bool = False,
        ahead: int = 4,
    ) -> None:
        if not 0 <= ahead <= RADIUS:
            raise ValueError(f"ahead is between 0 and {RADIUS} frames, not {ahead}")
        self.network = network.to(device).eval()
        self.size = size
        self.device = device
        self.batch_frames = batch_frames
        self.ahead = ahead
        self.bf16 = bf16

    def clip(
        self,
        source: NDArray[np.uint8],
        start: NDArray[np.float32],
        coefficients: NDArray[np.float32],
        fps: float = MOTION_FPS,
    ) -> Iterator[NDArray[np.uint8]]:
        """Frames of coefficients ``(n, 257)`` at 25 a second. At another frame rate descriptors between two
        frames are interpolated, and the clip lasts as long.
        """
        face = self._face(source)
        described = self._describe(edge_padded(renderer_motion(coefficients)), renderer_motion(start))
        descriptors = _at_rate(described, fps)
        for part in descriptors.split(self.batch_frames):
            yield from self._pictures(face, part)

    def stream(
        self,
        source: NDArray[np.uint8],
        start: NDArray[np.float32],
        rows: Iterable[NDArray[np.float32]],
    ) -> Iterator[NDArray[np.uint8]]:
        """A frame for each row, ``ahead`` rows later; the last ones when the rows end."""
        face, own = self._face(source), renderer_motion(start)
        known: deque[NDArray[np.float32]] = deque(maxlen=2 * RADIUS + 1)
        waiting = 0
        for row in rows:
            motion = renderer_motion(row)
            if not known:
                known.extend([motion] * RADIUS)
            known.append(motion)
            waiting += 1
            if waiting > self.ahead:
                yield from self._next(face, own, known, waiting)
                waiting -= 1
        while waiting:
            yield from self._next(face, own, known, waiting)
            waiting -= 1

    def _next(
        self, face: Tensor, own: NDArray[np.float32], known: deque[NDArray[np.float32]], waiting: int
    ) -> Iterator[NDArray[np.uint8]]:
        """The frame whose row is ``waiting`` from the end of those that are known."""
        frames = np.stack(known)
        here = len(frames) - waiting
        window = frames[np.clip(np.arange(here - RADIUS, here + RADIUS + 1), 0, len(frames) - 1)]
        yield from self._pictures(face, self._describe(window, own))

    def _face(self, source: NDArray[np.uint8]) -> Tensor:
        return as_model(torch.from_numpy(source[None]).to(self.device))

    def _describe(self, motion: NDArray[np.float32], own: NDArray[np.float32]) -> Tensor:
        given = [torch.from_numpy(part[None]).to(self.device) for part in (motion, own)]
        with torch.inference_mode():
            return self.network.describe(*given)[0]

    def _pictures(self, face: Tensor, descriptors: Tensor) -> NDArray[np.uint8]:
        kind = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self.bf16):
            return np.asarray(as_uint8(self.network.render(face, descriptors).generated).cpu().numpy())


class MeshRenderer:
    """The bare mesh in a renderer's place; the source picture is not looked at.

    Args:
        preview: draws.
    """

    def __init__(self, preview: MeshPreview) -> None:
        self.preview = preview
        self.size = preview.camera.size

    def clip(
        self,
        source: NDArray[np.uint8],
        start: NDArray[np.float32],
        coefficients: NDArray[np.float32],
        fps: float = MOTION_FPS,
    ) -> Iterator[NDArray[np.uint8]]:
        """Frames of coefficients ``(n, 257)``; between two of them at another frame rate."""
        yield from self.preview.frames(_at_rate(torch.from_numpy(coefficients), fps).numpy())

    def stream(
        self,
        source: NDArray[np.uint8],
        start: NDArray[np.float32],
        rows: Iterable[NDArray[np.float32]],
    ) -> Iterator[NDArray[np.uint8]]:
        """A frame for each row, at once."""
        for row in rows:
            yield self.preview(row)


def _at_rate(values: Tensor, fps: float) -> Tensor:
    """Rows at 25 a second → rows at another rate, as many as are shown in the same time."""
    if fps == MOTION_FPS:
        return values
    place = torch.arange(max(1, round(len(values) * fps / MOTION_FPS)), device=values.device)
    place = (place * (MOTION_FPS / fps)).clamp(max=len(values) - 1)
    first = place.floor().long()
    second = (first + 1).clamp(max=len(values) - 1)
    return torch.lerp(values[first], values[second], (place - first).to(values.dtype)[:, None])
