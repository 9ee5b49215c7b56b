"""What a training sample is: a window of frames with its audio, references from the same clip, negatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from talkgen.audio.alignment import PerFrameConvention

# iBUG's 68 points seen in a mirror: point i of the mirrored face is point MIRRORED_LANDMARKS[i] of the face.
MIRRORED_LANDMARKS: tuple[int, ...] = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31), *range(35, 30, -1),  # nose
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,  # eyes
    *range(54, 47, -1), *range(59, 54, -1),  # outer lips
    *range(64, 59, -1), *range(67, 64, -1),  # inner lips
)  # fmt: skip
ARCFACE_SIZE = 112


@dataclass(frozen=True)
class WindowSettings:
    """What the samples of a dataset hold.

    Attributes:
        frames: length of a window.
        size: frames are resized to this many pixels; None: as stored.
        stride: an epoch has one window for every `stride` frames of a clip; None: `frames`, so that every
        frame
            is seen about once.
        reference_frames: frames of the same clip outside the window.
        reference_run: references follow each other in time (as Wav2Lip and Diff2Lip take them), rather
        than being
            drawn one by one.
        reference_gap: frames left out between window and references.
        shifted_mels: mel windows of the same clip at other times (negatives of a sync expert).
        min_shift: their least distance in frames.
        max_shift: their greatest distance in frames; None: the clip's length.
        mel_per_frame: also give one mel window a frame.
        mel_per_frame_convention: see `talkgen.audio.alignment.per_frame_mel_window`.
        waveform: also give the samples of the window.
        arrays: further arrays of the store by name: per-frame ones, and `whisper` or `hubert`, which are
            interpolated to one vector a frame.
        mirror: probability of a mirrored sample. Not together with `arrays`, which cannot be mirrored in
            general, nor without pictures: the codes of a mirrored picture are not the mirrored codes.
        pictures: read the frames. False where codes stand for them (`talkgen.data.latent_data`); landmarks
            and warps are then those of a picture of `size` all the same.
        sound: read the mel. False for stores without sound.
    """

    frames: int = 5
    size: int | None = None
    stride: int | None = None
    reference_frames: int = 0
    reference_run: bool = False
    reference_gap: int = 0
    shifted_mels: int = 0
    min_shift: int = 5
    max_shift: int | None = None
    mel_per_frame: bool = False
    mel_per_frame_convention: PerFrameConvention = "official"
    waveform: bool = False
    arrays: tuple[str, ...] = ()
    mirror: float = 0.0
    pictures: bool = True
    sound: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        object.__setattr__(self, "arrays", tuple(self.arrays))  # a list comes from a config
        if self.frames < 1 or (self.stride is not None and self.stride < 1):
            raise ValueError(
                f"frames and stride of a window must be at least 1, got {self.frames}, {self.stride}"
            )
        if self.min_shift < 1 or (self.max_shift is not None and self.max_shift < self.min_shift):
            raise ValueError(
                f"shifts must have 1 <= min_shift <= max_shift, got {self.min_shift}, {self.max_shift}"
            )
        if min(self.reference_frames, self.reference_gap, self.shifted_mels) < 0:
            raise ValueError("reference_frames, reference_gap and shifted_mels cannot be negative")
        if self.mirror and self.arrays:
            raise ValueError(f"mirror would not mirror {', '.join(self.arrays)}; set mirror=0")
        if self.mirror and not self.pictures:
            raise ValueError("codes cannot be mirrored, only pictures can; set mirror=0")
        if not self.sound and (self.shifted_mels or self.mel_per_frame or self.waveform):
            raise ValueError("without sound there are no shifted_mels, mel_per_frame or waveform")

    @property
    def shortest_clip(self) -> int:
        """Frames that a clip must have so that every window of it has its references and negatives."""
        references = self.frames
        if self.reference_frames:
            references += 2 * self.reference_gap + (
                2 * self.reference_frames - 1 if self.reference_run else 1
            )
        negatives = self.frames - 1 + (2 * self.min_shift if self.shifted_mels else 1)
        return max(references, negatives)

    def windows_in(self, frames: int) -> int:
        """Windows of an epoch in a clip of `frames` frames; 0 where the clip is too short."""
        if frames < self.shortest_clip:
            return 0
        stride = self.stride or self.frames
        return -(-(frames - self.frames + 1) // stride)


@dataclass(frozen=True)
class WindowPlan:
    """Which frames of a clip a sample is made of.

    Attributes:
        start: first frame of the window.
        references: frame numbers.
        shifts: of the shifted mels, in frames.
        mirrored: whether the sample is seen in a mirror.
    """

    start: int
    references: list[int] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    mirrored: bool = False


def plan_window(
    rng: np.random.Generator, settings: WindowSettings, frames: int, slot: int, jitter: bool
) -> WindowPlan:
    """Choose the frames of one sample.

    Args:
        rng: where chance comes from.
        settings: what the sample holds.
        frames: length of the clip, at least `settings.shortest_clip`.
        slot: which of the clip's windows, below `settings.windows_in(frames)`.
        jitter: the window begins anywhere in its slot, rather than at its first frame.
    """
    stride = settings.stride or settings.frames
    starts = frames - settings.frames + 1
    first = slot * stride
    start = first + (int(rng.integers(min(stride, starts - first))) if jitter else 0)
    references = _choose_references(rng, settings, frames, start) if settings.reference_frames else []
    shifts: list[int] = []
    if settings.shifted_mels:
        distance = np.arange(starts) - start
        allowed = np.abs(distance) >= settings.min_shift
        if settings.max_shift is not None:
            allowed &= np.abs(distance) <= settings.max_shift
        candidates = distance[allowed]
        shifts = _draw(rng, candidates, settings.shifted_mels)
    return WindowPlan(start, references, shifts, bool(settings.mirror and rng.random() < settings.mirror))


def _choose_references(
    rng: np.random.Generator, settings: WindowSettings, frames: int, start: int
) -> list[int]:
    before = start - settings.reference_gap  # frames 0 … before − 1 may be taken
    after = start + settings.frames + settings.reference_gap  # and frames after … frames − 1
    count = settings.reference_frames
    if settings.reference_run:
        firsts = [*range(0, before - count + 1), *range(after, frames - count + 1)]
        first = firsts[int(rng.integers(len(firsts)))]
        return list(range(first, first + count))
    return _draw(rng, np.r_[0 : max(before, 0), after : max(frames, after)], count)


def _draw(rng: np.random.Generator, candidates: np.ndarray, count: int) -> list[int]:
    """`count` candidates, different ones where there are enough."""
    return [int(value) for value in rng.choice(candidates, count, replace=len(candidates) < count)]


def resize_frames(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 `(n, h, w, 3)` to `size` pixels: area averaging when it shrinks, cubic when it grows."""
    if frames.shape[1] == size:
        return frames
    method = cv2.INTER_AREA if size < frames.shape[1] else cv2.INTER_CUBIC
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for place, frame in enumerate(frames):
        cv2.resize(frame, (size, size), dst=out[place], interpolation=method)
    return out


def resize_points(points: np.ndarray, scale: float) -> np.ndarray:
    """Points after their image was resized by `scale`; the centre of the top-left pixel is (0, 0)."""
    return ((points + 0.5) * scale - 0.5).astype(np.float32)


def resize_warp(warp: np.ndarray, scale: float) -> np.ndarray:
    """Warps `(n, 2, 3)` from pixels of an image, after that image was resized by `scale`."""
    resized = warp.astype(np.float64)
    linear = resized[:, :, :2] / scale
    resized[:, :, 2] += resized[:, :, :2] @ np.full(2, 0.5 / scale - 0.5)
    resized[:, :, :2] = linear
    return resized.astype(np.float32)


def mirror_points(points: np.ndarray, size: int) -> np.ndarray:
    """iBUG landmarks `(n, 68, 2)` of the mirrored image, in iBUG order again."""
    mirrored = points[:, list(MIRRORED_LANDMARKS)].copy()
    mirrored[..., 0] = size - 1 - mirrored[..., 0]
    return mirrored


def mirror_warp(warp: np.ndarray, size: int) -> np.ndarray:
    """Warps `(n, 2, 3)` from the mirrored image to the mirrored ArcFace crop (so they stay similarities)."""
    mirrored = warp.copy()
    mirrored[:, :, 2] += (size - 1) * warp[:, :, 0]  # x of the image: size − 1 − x
    mirrored[:, :, 0] *= -1
    mirrored[:, 0] *= -1  # x of the crop: 111 − x
    mirrored[:, 0, 2] += ARCFACE_SIZE - 1
    return mirrored


def as_model(frames: torch.Tensor) -> torch.Tensor:
    """uint8 pictures (n, h, w, 3) → float32 (n, 3, h, w) in [-1, 1], on the same device."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def as_uint8(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (n, 3, h, w) in [-1, 1] → uint8 (n, h, w, 3), as they would be written to a file."""
    return ((pictures.permute(0, 2, 3, 1).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_model_range(batch: dict[str, Any]) -> dict[str, Any]:
    """Turn pictures of a batch from uint8 `b t h w 3` into float32 `b t 3 h w` in [-1, 1]; the rest stays."""
    for name in ("video", "reference"):
        pictures = batch.get(name)
        if isinstance(pictures, torch.Tensor) and pictures.dtype == torch.uint8:
            moved = pictures.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
            batch[name] = moved.div_(127.5).sub_(1)
    return batch
