"""A picture of subspaces: how far their amounts go together, and where the parts of expressions lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from talkgen.face3d.motion_statistics import MotionStatistics

_SIDE, _MARGIN = 420, 30
_COLOURS = {"lip": (60, 60, 220), "eye": (200, 120, 30), "global": (120, 120, 120)}  # BGR
_POINTS = 250  # frames, of each region


def draw_subspaces(
    file: Path, statistics: MotionStatistics, expressions: Sequence[NDArray[np.floating]], seed: int = 0
) -> None:
    """Write a PNG of three squares: |correlation| of all amounts within clips; what the parts of some frames'
    expressions do to the landmarks, each region at unit size, by its first two principal components; and the
    same by t-SNE (van der Maaten & Hinton 2008).

    Args:
        file: .png.
        statistics: the directions.
        expressions: (frames, k) of each clip.
        seed: of the choice of frames.
    """
    moving = np.concatenate([clip - clip.mean(0) for clip in expressions]).astype(np.float64)
    z = moving @ statistics.encode / statistics.deviation
    chosen = np.random.default_rng(seed).choice(len(z), min(_POINTS, len(z)), replace=False)
    parts, labels = [], []
    start = 0
    for name, size in zip(statistics.names, statistics.sizes, strict=True):
        here = slice(start, start + size)
        moved = z[chosen, here] @ statistics.landmarks[here]
        parts.append(moved / max(float(np.sqrt((moved**2).sum(1).mean())), 1e-12))
        labels += [name] * len(chosen)
        start += size
    points = np.concatenate(parts)
    squares = [
        _correlation(z, statistics),
        _scatter(_principal(points), labels, "landmarks moved by each part, PCA"),
        _scatter(_neighbours(points, seed), labels, "landmarks moved by each part, t-SNE"),
    ]
    content = cv2.imencode(".png", np.concatenate(squares, axis=1))[1].tobytes()
    temporary = file.with_name(f".{file.name}.partial")
    temporary.write_bytes(content)
    temporary.replace(file)


def _square(title: str) -> NDArray[np.uint8]:
    side = _SIDE + 2 * _MARGIN
    picture = np.full((side, side, 3), 255, np.uint8)
    cv2.putText(picture, title, (_MARGIN, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def _correlation(z: NDArray[np.floating], statistics: MotionStatistics) -> NDArray[np.uint8]:
    matrix = np.abs(np.corrcoef(z.T))
    picture = _square("correlation of amounts: " + ", ".join(statistics.names))
    shade = cv2.applyColorMap((255 * np.clip(matrix, 0, 1)).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    picture[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = cv2.resize(
        shade, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST
    )
    for edge in np.cumsum(statistics.sizes)[:-1]:
        place = _MARGIN + round(edge * _SIDE / len(matrix))
        cv2.line(picture, (place, _MARGIN), (place, _MARGIN + _SIDE), (255, 255, 255), 1)
        cv2.line(picture, (_MARGIN, place), (_MARGIN + _SIDE, place), (255, 255, 255), 1)
    return picture


def _principal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = points - points.mean(0)
    plane: NDArray[np.float64] = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    return plane


def _neighbours(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    plane: NDArray[np.float64] = TSNE(
        perplexity=perplexity, init="pca", random_state=seed, max_iter=500
    ).fit_transform(points)
    return plane


def _scatter(plane: NDArray[np.float64], labels: Sequence[str], title: str) -> NDArray[np.uint8]:
    picture = _square(title)
    low, high = np.quantile(plane, 0.005, axis=0), np.quantile(plane, 0.995, axis=0)
    place = np.clip((plane - low) / np.maximum(high - low, 1e-9), 0, 1) * _SIDE + _MARGIN
    for (x, y), label in zip(place.round().astype(int), labels, strict=True):
        cv2.circle(picture, (int(x), int(y)), 2, _COLOURS.get(label, (0, 0, 0)), -1, cv2.LINE_AA)
    for row, name in enumerate(dict.fromkeys(labels)):
        y = _MARGIN + 18 * (row + 1)
        cv2.circle(picture, (_MARGIN + 10, y - 4), 4, _COLOURS.get(name, (0, 0, 0)), -1, cv2.LINE_AA)
        cv2.putText(
            picture, name, (_MARGIN + 20, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
    return picture
