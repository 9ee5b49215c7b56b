"""An invisible mark in generated video that is found again after re-encoding and resizing.

Additive spread spectrum (Cox et al., "Secure spread spectrum watermarking for multimedia", 1997): one fixed
pattern is added to the brightness of every frame. Its spectrum lies on a ring of ``LOW`` to ``HIGH`` cycles
a picture, counted in widths and heights of the frame, so that a resized frame has it at the same place: below
it the picture itself is strong, above it encoders and resizing take everything away. The phases are fixed by
the key. Finding it is a matched filter: frames are brought to one size, made equally busy everywhere and at
every frequency, summed, and compared with the pattern; patterns of other keys say what chance gives.

It is a label, not a lock: cutting much of the border off, turning the picture or adding the inverse pattern
on purpose removes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "talkgen 1"
LOW, HIGH = 8, 30
"""Cycles a picture between which the pattern lies."""

STRENGTH = 2.0
"""Root mean square of the pattern in 8-bit levels: 42 dB of PSNR."""

THRESHOLD = 5.0
"""Score from which a video counts as marked; chance alone reaches it once in three million videos."""

_SIZE = 256  # pixels of the picture that is examined
_DECOYS = 200  # keys that nothing was marked with
_BUSY_SIGMA = 3.0  # pixels around which brightness and its spread are levelled
_FLAT = 0.2  # levels of spread below which nothing is amplified further
_TAPER = 0.25  # power of the Hann window that takes the edge of the picture away


class Watermark:
    """The mark for frames of one size.

    Usage::

        mark = Watermark(1280, 720)
        marked = mark(frame)

    Args:
        width, height: of the frames in pixels.
        strength: root mean square of what is added, in 8-bit levels.
        key: whose mark it is.
    """

    def __init__(self, width: int, height: int, strength: float = STRENGTH, key: str = KEY) -> None:
        spectrum = np.zeros((_SIZE, _SIZE // 2 + 1), complex)
        spectrum[_ring()] = _phases(key)
        pattern = np.fft.irfft2(spectrum, (_SIZE, _SIZE))
        pattern *= strength / pattern.std()
        smaller = width < _SIZE or height < _SIZE
        shape = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        levels = np.rint(cv2.resize(pattern.astype(np.float32), (width, height), interpolation=shape))
        self._added = _grey(levels)
        self._taken = _grey(-levels)

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frame, uint8 (height, width, 3), with the mark; a new array."""
        marked = cv2.add(frame, self._added)
        return np.asarray(cv2.subtract(marked, self._taken, dst=marked))


@dataclass(frozen=True)
class Detection:
    """How strongly frames show the mark.

    Attributes:
        score: standard deviations above what the patterns of other keys reach.
        frames: how many were examined.
    """

    score: float
    frames: int

    @property
    def found(self) -> bool:
        """Whether that is more than chance gives."""
        return self.score >= THRESHOLD


def detect(frames: Iterable[NDArray[np.uint8]], key: str = KEY) -> Detection:
    """Look for the mark, also in mirrored video.

    Args:
        frames: uint8 RGB (height, width, 3) of any size, some thirty of them; the more the picture changes
            from one to the next, the clearer the mark stands out.
        key: whose mark is looked for.

    Raises:
        ValueError: there is no frame.
    """
    total = np.zeros((2, int(_ring().sum())), complex)
    count = 0
    for frame in frames:
        levelled = _levelled(frame)
        total[0] += _whitened(levelled)
        total[1] += _whitened(np.ascontiguousarray(levelled[:, ::-1]))
        count += 1
    if not count:
        raise ValueError("there is no frame to look for a mark in")
    patterns = np.stack([_phases(key), *(_phases(f"decoy {number}") for number in range(_DECOYS))])
    agreement = (total @ patterns.conj().T).real
    chance = agreement[:, 1:]
    spread = chance.std(1)
    scores = np.where(spread > 0, (agreement[:, 0] - chance.mean(1)) / np.maximum(spread, 1e-12), 0.0)
    return Detection(float(scores.max()), count)


def _levelled(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Brightness at one size, with the same mean and spread everywhere."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    shape = cv2.INTER_AREA if min(grey.shape) >= _SIZE else cv2.INTER_CUBIC
    small = cv2.resize(grey, (_SIZE, _SIZE), interpolation=shape).astype(np.float32)
    small -= cv2.GaussianBlur(small, (0, 0), _BUSY_SIGMA)
    spread = np.sqrt(cv2.GaussianBlur(small * small, (0, 0), _BUSY_SIGMA))
    return np.asarray(small / (spread + _FLAT), np.float32)


def _whitened(levelled: NDArray[np.float32]) -> NDArray[np.complex128]:
    """The spectrum on the ring, every frequency of length 1."""
    ring = np.fft.rfft2(levelled * _window())[_ring()]
    return ring / np.maximum(np.abs(ring), 1e-9)


@lru_cache(maxsize=1)
def _ring() -> NDArray[np.bool_]:
    """Which frequencies of a real picture's half spectrum carry the mark."""
    down = np.fft.fftfreq(_SIZE, 1 / _SIZE)[:, None]
    across = np.arange(_SIZE // 2 + 1)[None]
    distance = np.hypot(down, across)
    # Column 0 holds each frequency twice, once conjugated; it is left out.
    return (distance >= LOW) & (distance < HIGH) & (across > 0)


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float32]:
    edge = np.hanning(_SIZE) ** _TAPER
    return np.outer(edge, edge).astype(np.float32)


@lru_cache(maxsize=512)
def _phases(key: str) -> NDArray[np.complex128]:
    """One number of length 1 for each frequency of the ring, the same on every machine."""
    count = int(_ring().sum())
    numbers = np.frombuffer(hashlib.shake_256(key.encode()).digest(2 * count), "<u2")
    return np.exp(2j * np.pi * numbers / 65536)


def _grey(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Positive levels, the same in every colour."""
    return np.repeat(np.clip(levels, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
