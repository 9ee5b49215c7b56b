from __future__ import annotations

import numpy as np
import pytest

from talkgen.video.contact_sheet import contact_sheet


def test_pictures_lie_in_rows_from_left_to_right():
    images = [np.full((10, 20, 3), value, np.uint8) for value in (10, 60, 110, 160, 210)]
    sheet = contact_sheet(images, columns=3)
    assert sheet.shape == (2 * 14 + 4, 3 * 24 + 4, 3)
    for index, image in enumerate(images):
        y, x = 4 + index // 3 * 14, 4 + index % 3 * 24
        np.testing.assert_array_equal(sheet[y : y + 10, x : x + 20], image)
    assert (sheet[18:28, 52:72] == 255).all()  # the sixth cell is empty


def test_other_sizes_are_centred_and_labels_stand_above():
    sheet = contact_sheet(
        [np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)], columns=9, labels=["a", "b"]
    )
    assert sheet.shape == (18 + 12 + 4, 2 * 12 + 4, 3)
    assert (sheet[24:28, 18:22] == 0).all() and (sheet[23, 18:22] == 255).all()
    assert (sheet[4:22, 4:12] < 255).any()


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 3)
    with pytest.raises(ValueError, match="labels"):
        contact_sheet([np.zeros((8, 8, 3), np.uint8)], 1, ["a", "b"])
