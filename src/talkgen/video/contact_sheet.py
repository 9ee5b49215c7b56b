"""Many small pictures on one sheet, for documents, samples and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GAP = 4
_LABEL_HEIGHT = 18


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], columns: int, labels: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """Lay pictures out in rows, from left to right, each centred in a cell of the largest size.

    Args:
        images: uint8 RGB (height, width, 3) of any sizes.
        columns: pictures in a row.
        labels: a line of (Latin) text over each picture, shortened to the width of the cell.

    Returns:
        uint8 RGB, white between the pictures.
    """
    if not images or columns < 1:
        raise ValueError("a contact sheet needs at least one picture and one column")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} pictures but {len(labels)} labels")
    top = _LABEL_HEIGHT if labels is not None else 0
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = np.full((rows * (height + top + _GAP) + _GAP, columns * (width + _GAP) + _GAP, 3), 255, np.uint8)
    for index, image in enumerate(images):
        y = _GAP + index // columns * (height + top + _GAP)
        x = _GAP + index % columns * (width + _GAP)
        if labels is not None:
            # The font has about 7 pixels a letter at this size; the view keeps it inside its cell.
            cell = sheet[y : y + top, x : x + width]
            text = labels[index][: max(1, width // 7)]
            drawn = cv2.putText(
                np.ascontiguousarray(cell),
                text,
                (1, 13),
                cv2.FONT_HERSHEY_SIMPLEX,
                0.4,
                (0, 0, 0),
                1,
                cv2.LINE_AA,
            )
            cell[:] = drawn
        y += top + (height - image.shape[0]) // 2
        x += (width - image.shape[1]) // 2
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet
