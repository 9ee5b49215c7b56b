from __future__ import annotations

import numpy as np
import pytest

from talkgen.faces.mask import feathered_mask, landmark_mask, lower_half_mask


def test_the_lower_half_is_exactly_half():
    mask = lower_half_mask(256)
    assert mask.dtype == np.float32
    assert (mask[:128] == 0).all() and (mask[128:] == 1).all()


def test_softness_lies_inside():
    mask = lower_half_mask(128, feather_pixels=10)
    assert (mask[:64] == 0).all() and mask.max() == 1
    assert (mask[80:110, 20:108] == 1).all()
    column = mask[64:80, 64]
    assert (np.diff(column) >= 0).all() and column[0] < 0.05 and 0.4 < column[4:6].mean() < 0.6
    np.testing.assert_allclose(mask, mask[:, ::-1])
    assert mask[100, 0] < 0.05 and mask[-1, 64] < 0.05  # the border of the crop is a rim, too


def test_a_hard_mask_stays_hard():
    region = np.eye(9) > 0
    np.testing.assert_array_equal(feathered_mask(region, 0), region.astype(np.float32))


def face_points() -> np.ndarray:
    """A round face of radius 80 around (128, 128) with brows, nose bridge and mouth where they belong."""
    points = np.full((68, 2), 128.0)
    turn = np.linspace(np.pi, 0, 17)
    points[:17] = 128 + 80 * np.stack([np.cos(turn), np.sin(turn)], 1)
    points[17:27] = np.stack([np.linspace(70, 186, 10), np.full(10, 90)], 1)
    points[28] = (128, 115)
    turn = np.linspace(-np.pi, np.pi, 13)[:-1]
    points[48:60] = np.array([128, 170]) + np.stack([30 * np.cos(turn), 12 * np.sin(turn)], 1)
    return points


def test_regions_hold_what_they_are_named_after():
    points = face_points()
    mouth, lower, face = (landmark_mask(points, 256, region) for region in ("mouth", "lower_face", "face"))
    assert mouth.sum() == pytest.approx(0.5 * 12 * np.sin(np.pi / 6) * 30 * 12, rel=0.1)  # regular 12-gon
    assert mouth[170, 128] == 1 and mouth[140, 128] == 0
    assert ((mouth > 0) <= (lower > 0)).all() and ((lower > 0) <= (face > 0)).all()
    assert lower[200, 128] == 1 and lower[95, 128] == 0 and face[95, 128] == 1
    with pytest.raises(ValueError, match="mouth, lower_face, face"):
        landmark_mask(points, 256, "ear")


def test_growing():
    points = face_points()
    small, large = landmark_mask(points, 256), landmark_mask(points, 256, grow=0.2)
    assert ((small > 0) <= (large > 0)).all()
    assert np.flatnonzero(large[170])[0] == pytest.approx(np.flatnonzero(small[170])[0] - 12, abs=1)


def test_landmarks_outside_the_crop_do_not_fail():
    assert landmark_mask(face_points() - 400, 256).sum() == 0
