from __future__ import annotations

import cv2
import numpy as np
import pytest

from talkgen.faces.crop import crop_frame, invert, transform_points, warp


def smooth_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(float)
    waves = np.stack([np.sin(x / 17) + np.cos(y / 23), np.sin((x + y) / 31), np.cos(x / 13 - y / 29)], -1)
    return (127 + 50 * waves).clip(0, 255).astype(np.uint8)


def test_whole_pixel_crops_are_exact():
    frame = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    matrix = np.array([[1, 0, -30], [0, 1, -20]], np.float32)
    np.testing.assert_array_equal(crop_frame(frame, matrix, 50), frame[20:70, 30:80])


def streaked(size: int = 128) -> np.ndarray:
    """Columns of random grey, which repeated pixels above the frame would continue for ever."""
    grey = np.random.default_rng(0).integers(0, 256, (1, size, 1), dtype=np.uint8)
    return np.tile(grey, (size, 1, 3))


def test_what_lies_inside_of_the_frame_keeps_its_bits():
    frame = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    for shift in ([30, 20], [-40, 50], [30, -41]):
        crop = crop_frame(frame, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), 128)
        x0, y0 = max(shift[0], 0), max(shift[1], 0)
        inside = crop[y0 : shift[1] + 90, x0 : shift[0] + 120]
        expected = frame[y0 - shift[1] :, x0 - shift[0] :][: len(inside), : inside.shape[1]]
        np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_streaks_outside_of_the_frame_fade_with_the_distance(scale):
    """The nearest row continues the frame; half a crop above, the columns can no longer be told apart."""
    crop = crop_frame(streaked(int(128 / scale)), np.array([[scale, 0, 0], [0, scale, 64]]), 128)
    repeated = warp(streaked(int(128 / scale)), np.array([[scale, 0, 0], [0, scale, 64]]), 128, 128)
    np.testing.assert_array_equal(crop[65:], repeated[65:])
    roughness = np.abs(np.diff(crop[..., 0].astype(float), axis=1)).mean(1)
    # One pixel of 128 is 0.13 of the way, where 4.7 % of the (at most 128 levels distant) blur has come in.
    assert 0 < np.abs(crop[63].astype(int) - repeated[63]).max() <= 0.047 * 128 + 1
    assert roughness[56] < 0.1 * roughness[64]  # 8 pixels above the frame
    assert roughness[0] < 0.02 * roughness[64]


def test_a_crop_around_a_corner_has_no_edge_of_its_own():
    """A picture of one colour stays of one colour outside, whichever sides the crop leaves by."""
    frame = np.full((50, 70, 3), (200, 90, 10), np.uint8)
    turn = np.array([[0.8, -0.6, 40], [0.6, 0.8, 5]])
    assert (np.abs(crop_frame(frame, turn, 128).astype(int) - (200, 90, 10)) <= 1).all()
    frame[20:30, 30:40] = 0  # nothing of the inside is mirrored outside
    crop = crop_frame(frame, np.array([[1, 0, 100], [0, 1, 100]]), 256)
    assert (np.argwhere(crop[..., 0] < 100).min(0) >= 119).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [1, 7, 96, 101])
def test_every_size_and_number_of_channels_may_leave_the_frame(channels, size):
    frame = np.full((40, 40, channels), 77, np.uint8)
    crop = crop_frame(frame, np.array([[1, 0, 5], [0, 1, 5]]), size)
    assert crop.reshape(size, size, channels).min() >= 76 and crop.max() <= 78


def test_points_and_pixels_move_alike():
    frame = np.zeros((200, 200, 3), np.uint8)
    frame[118:123, 78:83] = 255  # centre (80, 120)
    matrix = np.array([[0.9, -0.3, 40], [0.3, 0.9, -10]])
    y, x = np.argwhere(crop_frame(frame, matrix, 200)[..., 0] > 127).mean(0)
    np.testing.assert_allclose([x, y], transform_points(matrix, [[80, 120]])[0], atol=0.3)


@pytest.mark.parametrize("shrink", [2, 3, 4.3, 8])
def test_shrinking_averages_instead_of_skipping(shrink):
    """A checkerboard of single pixels becomes grey; sampling gives black and white patterns."""
    board = np.indices((512, 512)).sum(0) % 2 * 255
    frame = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    matrix = np.array([[1 / shrink, 0, 0.2], [0, 1 / shrink, 0.1]])
    assert np.abs(crop_frame(frame, matrix, 50).astype(int) - 127).max() < 35
    plain = cv2.warpAffine(frame, matrix, (50, 50))
    assert crop_frame(frame, matrix, 50).std() < 0.3 * plain.std()


@pytest.mark.parametrize("shrink", [2, 2.7, 4, 6.5])
def test_shrinking_does_not_shift(shrink):
    frame = smooth_picture(600, 700)
    matrix = np.array([[1 / shrink, 0, -7.3], [0, 1 / shrink, -3.1]])
    crop = crop_frame(frame, matrix, 64)
    plain = cv2.warpAffine(frame, matrix, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(crop.astype(float) - plain).mean() < 1.5
    half = np.array([[0, 0, 0.5], [0, 0, 0]])
    shifted = cv2.warpAffine(frame, matrix + half, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(crop.astype(float) - plain).mean() < 0.6 * np.abs(crop.astype(float) - shifted).mean()


def test_a_crop_far_outside_does_not_fail():
    frame = smooth_picture(60, 60)
    for scale in (0.1, 0.4, 1.0):
        for shift in (-5000, 5000):
            assert crop_frame(frame, np.array([[scale, 0, shift], [0, scale, shift]]), 32).shape == (
                32,
                32,
                3,
            )


def test_inverse_and_round_trip():
    rng = np.random.default_rng(0)
    matrices = np.concatenate(
        [rng.normal(size=(6, 2, 2)) + 2 * np.eye(2), 30 * rng.normal(size=(6, 2, 1))], -1
    )
    points = 100 * rng.normal(size=(6, 11, 2))
    back = transform_points(invert(matrices), transform_points(matrices, points))
    np.testing.assert_allclose(back, points, atol=2e-2)
    assert invert(matrices).dtype == np.float32 and invert(matrices[0]).shape == (2, 3)
    np.testing.assert_allclose(
        transform_points(matrices[:, None], points[:, None])[:, 0], transform_points(matrices, points)
    )


def test_warp_keeps_the_number_of_channels():
    for channels in (1, 3, 4):
        image = np.zeros((40, 40, channels), np.uint8)
        assert warp(image, np.array([[0.25, 0, 0], [0, 0.25, 0]]), 10, 12).shape[:2] == (12, 10)
