from __future__ import annotations

import cv2
import numpy as np
import pytest

from talkgen.faces.blending import paste_back
from talkgen.faces.crop import crop_frame, invert
from talkgen.faces.mask import lower_half_mask


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Texture with the sharpness of a decoded video."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3))
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return (127 + 40 * blurred / blurred.std()).clip(0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(1e-9, float(((a.astype(float) - b) ** 2).mean())))


MATRICES = {
    "shifted": np.array([[1, 0, -100.37], [0, 1, -60.71]]),
    "turned": np.array([[0.98, -0.2, -40.1], [0.2, 0.98, -90.6]]),
    "shrunk": np.array([[0.5, 0, -40.3], [0, 0.5, -20.2]]),
    "enlarged": np.array([[2.2, 0, -400.3], [0, 2.2, -300.2]]),
    "half outside": np.array([[1, 0, 60.2], [0, 1, 40.9]]),
}


@pytest.mark.parametrize("name", list(MATRICES))
def test_pixels_outside_the_mask_keep_their_bits(name):
    frame, matrix, size = textured(300, 400), MATRICES[name], 128
    mask = lower_half_mask(size, feather_pixels=8)
    black = np.zeros((size, size, 3), np.uint8)
    result = paste_back(frame, black, matrix, mask)
    under = cv2.warpAffine(mask, invert(matrix).astype(float), (400, 300))
    np.testing.assert_array_equal(result[under == 0], frame[under == 0])
    # No pixel more than the region itself and the interpolation's one pixel around it has changed.
    reach = cv2.dilate((under > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    np.testing.assert_array_equal(result[~reach], frame[~reach])
    assert (result[under > 0.99] <= 3).all() and (under > 0.99).any()


def test_the_frame_that_was_given_is_not_changed():
    frame = textured(100, 100)
    before = frame.copy()
    paste_back(frame, np.zeros((64, 64, 3), np.uint8), np.eye(2, 3), np.ones((64, 64)))
    np.testing.assert_array_equal(frame, before)


def test_whole_pixel_crops_go_back_exactly():
    frame = textured(200, 200)
    matrix = np.array([[1, 0, -30], [0, 1, -40]])
    crop = crop_frame(frame, matrix, 96)
    np.testing.assert_array_equal(paste_back(frame, crop, matrix, np.ones((96, 96))), frame)


@pytest.mark.parametrize("name", ["shifted", "turned", "enlarged", "half outside"])
def test_an_unchanged_crop_comes_back_in_its_place(name):
    """At scale 1 and above: 40 dB or more on texture, where a shift of half a pixel gives less than 36."""
    frame, matrix, size = textured(300, 400), MATRICES[name], 200
    mask = np.ones((size, size), np.float32)
    result = paste_back(frame, crop_frame(frame, matrix, size), matrix, mask)
    changed = cv2.warpAffine(mask, invert(matrix).astype(float), (400, 300)) > 0.5
    assert psnr(result[changed], frame[changed]) >= 40
    shifted = paste_back(
        frame, crop_frame(frame, matrix + np.array([[0, 0, 0.5], [0, 0, 0]]), size), matrix, mask
    )
    assert psnr(shifted[changed], frame[changed]) < 36


def test_shrunk_crops_come_back_in_place():
    """Detail is lost, position is not: a smooth picture survives."""
    frame = cv2.GaussianBlur(textured(300, 400), (0, 0), 6)
    for scale in (0.5, 0.33, 0.2):
        matrix = np.array([[scale, 0, -20.3], [0, scale, -10.2]])
        mask = np.ones((40, 40), np.float32)
        result = paste_back(frame, crop_frame(frame, matrix, 40), matrix, mask)
        inside = cv2.warpAffine(mask, invert(matrix).astype(float), (400, 300)) > 0.99
        assert psnr(result[inside], frame[inside]) > 32, scale


def test_values_are_rounded_not_truncated():
    frame = np.full((64, 64, 3), 100, np.uint8)
    crop = np.full((64, 64, 3), 103, np.uint8)
    half = paste_back(frame, crop, np.eye(2, 3), np.full((64, 64), 0.25, np.float32))
    assert (half[10:50, 10:50] == 101).all()  # 100.75
    assert (paste_back(crop, frame, np.eye(2, 3), np.full((64, 64), 0.1))[10:50, 10:50] == 103).all()  # 102.7


def test_colour_matching_removes_a_tint():
    frame = textured(200, 200)
    matrix = np.array([[1, 0, -30], [0, 1, -40]])
    crop = crop_frame(frame, matrix, 128)
    tinted = np.clip(crop.astype(int) + np.array([12, -8, 5]), 0, 255).astype(np.uint8)
    mask = lower_half_mask(128, feather_pixels=12)
    plain = paste_back(frame, tinted, matrix, mask)
    matched = paste_back(frame, tinted, matrix, mask, match_colour=True)
    assert np.abs(matched.astype(int) - frame).mean() < 0.15 * np.abs(plain.astype(int) - frame).mean()
    # A hard mask has no rim to compare at.
    hard = paste_back(frame, tinted, matrix, lower_half_mask(128), match_colour=True)
    np.testing.assert_array_equal(hard, paste_back(frame, tinted, matrix, lower_half_mask(128)))


def test_a_crop_outside_the_frame_changes_nothing():
    frame = textured(50, 50)
    far = np.array([[1, 0, 5000], [0, 1, 0]])
    np.testing.assert_array_equal(
        paste_back(frame, np.zeros((32, 32, 3), np.uint8), far, np.ones((32, 32))), frame
    )


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in size"):
        paste_back(textured(50, 50), np.zeros((32, 32, 3), np.uint8), np.eye(2, 3), np.ones((16, 16)))
