"""Running a sequence model over audio that is longer than it can take: overlapping windows, faded into each
other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def overlapping_windows(length: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Half-open windows that cover ``length`` steps; neighbours share at least ``overlap`` steps.

    All windows have ``window`` steps (the last one is moved back to end with the sequence), except that a
    sequence which fits into one window is that window.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"an overlap of {overlap} does not fit into windows of {window}")
    if length <= window:
        return [(0, length)]
    starts = [*range(0, length - window, window - overlap), length - window]
    return [(start, start + window) for start in starts]


def join(
    windows: Sequence[tuple[int, int]], pieces: Iterable[NDArray[np.float32]], fade: int
) -> NDArray[np.float32]:
    """One array from what a model gave for each window.

    In the middle of an overlap one piece fades linearly into the next; the outer parts of the overlap, where
    a model sees little context, are not used.

    Args:
        windows: from :func:`overlapping_windows`.
        pieces: ``(window, dim)`` each; may be a generator, so that one is in memory at a time.
        fade: steps of the transition; half the overlap at most.

    Returns:
        float32 ``(length, dim)``.
    """
    joined: NDArray[np.float32] | None = None
    previous_stop = 0
    for (start, stop), piece in zip(windows, pieces, strict=True):
        if len(piece) != stop - start:
            raise ValueError(f"the model gave {len(piece)} steps for a window of {stop - start}")
        if joined is None:
            joined = np.empty((windows[-1][1], piece.shape[1]), np.float32)
            joined[:stop] = piece
        else:
            half = min(fade, (previous_stop - start) // 2) // 2
            middle = (start + previous_stop) // 2
            weight = ((np.arange(2 * half, dtype=np.float32) + 0.5) / max(2 * half, 1))[:, None]
            seam = slice(middle - half, middle + half)
            joined[seam] += weight * (piece[middle - half - start : middle + half - start] - joined[seam])
            joined[middle + half : stop] = piece[middle + half - start :]
        previous_stop = stop
    if joined is None:
        raise ValueError("there are no windows to join")
    return joined
