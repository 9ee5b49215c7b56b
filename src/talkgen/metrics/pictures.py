"""What the rows of a table look like: a contact sheet, and a video of all side by side with sound."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

LABEL_PX = 22
"""Height of the strip with a picture's name."""


def side_by_side(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Frames of one height, uint8 (h, w, 3), next to each other."""
    return np.concatenate(list(frames), axis=1)


def contact_sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]], cell_px: int = 192
) -> NDArray[np.uint8]:
    """A grid of pictures with the names of its columns above and of its rows at the left of each row.

    Args:
        columns: names, such as those of the rows of a table.
        rows: name (a clip) and one picture a column, square, uint8 RGB.
        cell_px: width and height of a picture in the sheet.

    Returns:
        uint8 RGB.
    """
    lines = [side_by_side([_label(name, cell_px) for name in columns])]
    for name, pictures in rows:
        lines.append(_label(name, cell_px * len(columns)))
        method = cv2.INTER_AREA if pictures[0].shape[0] > cell_px else cv2.INTER_CUBIC
        cells = [cv2.resize(picture, (cell_px, cell_px), interpolation=method) for picture in pictures]
        lines.append(np.concatenate(cells, axis=1).astype(np.uint8, copy=False))
    return np.concatenate(lines, axis=0)


def _label(text: str, width: int) -> NDArray[np.uint8]:
    """A white strip with text that is made to fit; OpenCV's font has ASCII alone."""
    strip = np.full((LABEL_PX, width, 3), 255, np.uint8)
    text = text.encode("ascii", "replace").decode()
    (needed, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.45, (width - 8) / max(needed, 1))
    cv2.putText(strip, text, (4, LABEL_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
