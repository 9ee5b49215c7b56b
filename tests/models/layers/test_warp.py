from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from talkgen.models.layers.warp import invert_affine, warp_affine


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]], np.float32)


def smooth_picture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(-1, 1, (height, width, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3)


MATRICES = [
    similarity(1.0, 0.0, 3.0, -5.0),
    similarity(1.7, 12.0, -9.3, 4.6),
    similarity(0.6, -31.0, 11.2, 30.7),
    np.array([[0.8, 0.3, 2.0], [-0.1, 1.2, 1.0]], np.float32),
]


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_numbers_of_opencv(matrix: np.ndarray) -> None:
    picture = smooth_picture(60, 90)
    expected = cv2.warpAffine(picture, matrix, (50, 40), flags=cv2.INTER_LINEAR)
    images = torch.from_numpy(picture).permute(2, 0, 1)[None]
    got = warp_affine(images, torch.from_numpy(matrix)[None], (40, 50))[0].permute(1, 2, 0).numpy()
    # opencv rounds positions to 1/32 pixel
    assert np.abs(got - expected).max() < 0.015 * np.abs(picture).max()
    half = matrix + np.array([[0, 0, 0.5], [0, 0, 0.5]], np.float32)
    shifted = cv2.warpAffine(picture, half, (50, 40), flags=cv2.INTER_LINEAR)
    assert np.abs(got - shifted).max() > 5 * np.abs(got - expected).max()  # so half a pixel would be seen


def test_whole_pixel_shifts_are_exact_and_each_item_has_its_matrix() -> None:
    images = torch.rand(2, 1, 6, 7)
    matrices = torch.tensor([[[1.0, 0, 2], [0, 1, 1]], [[1.0, 0, -1], [0, 1, 0]]])
    got = warp_affine(images, matrices, (6, 7))
    expected = torch.zeros(2, 1, 6, 7)
    expected[0, :, 1:, 2:] = images[0, :, :-1, :-2]
    expected[1, :, :, :-1] = images[1, :, :, 1:]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_samples_average_every_pixel_of_a_shrunken_picture() -> None:
    images = torch.rand(1, 2, 12, 12)
    # output pixel j covers input pixels 3 j … 3 j + 2, whose middle is 3 j + 1
    third = torch.tensor([[[1 / 3, 0, -1 / 3], [0, 1 / 3, -1 / 3]]])
    torch.testing.assert_close(
        warp_affine(images, third, 4, samples=3), torch.nn.functional.avg_pool2d(images, 3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(warp_affine(images, third, 4), images[:, :, 1::3, 1::3], atol=1e-5, rtol=0)


def test_gradients_reach_every_pixel_only_with_enough_samples() -> None:
    third = torch.tensor([[[1 / 3, 0, -1 / 3], [0, 1 / 3, -1 / 3]]])
    for samples, reached in ((1, 16), (3, 144)):
        images = torch.rand(1, 1, 12, 12, requires_grad=True)
        warp_affine(images, third, 4, samples=samples).sum().backward()
        assert images.grad is not None
        assert int((images.grad.abs() > 1e-3).sum()) == reached
        assert images.grad.sum().item() == pytest.approx(16, rel=1e-4)


def test_the_derivative_is_that_of_the_formula() -> None:
    images = torch.rand(2, 1, 8, 9, dtype=torch.float64, requires_grad=True)
    matrices = torch.tensor(np.stack([similarity(0.9, 20, 1, -1), similarity(1.3, -5, 0, 2)]))
    assert torch.autograd.gradcheck(lambda x: warp_affine(x, matrices, 5, samples=2), (images,), atol=1e-4)


def test_inverse() -> None:
    matrix = torch.from_numpy(similarity(0.7, 33, 5, -2))
    square = torch.cat([matrix, torch.tensor([[0.0, 0, 1]])])
    inverse = torch.cat([invert_affine(matrix[None])[0], torch.tensor([[0.0, 0, 1]])])
    torch.testing.assert_close(square @ inverse, torch.eye(3), atol=1e-5, rtol=0)
