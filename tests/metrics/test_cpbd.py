from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from talkgen.metrics.canny import canny
from talkgen.metrics.cpbd import CPBD, CPBDDifference, _edge_widths, _sobel_edges, cpbd, grey_of
from talkgen.metrics.footage import Footage


@pytest.mark.parametrize("name", ["astronaut_PIL_L", "chelsea_PIL_L", "moon", "text"])
def test_published_values(reference: Path, name: str) -> None:
    numbers = np.load(reference / "cpbd.npz")
    assert cpbd(numbers[f"img_{name}"]) == pytest.approx(float(numbers[f"cpbd_{name}"]), abs=1e-12)


def test_every_published_value(shared: Path) -> None:
    numbers = np.load(shared / "parity" / "d_cpbd.npz")
    names = [name.removeprefix("img_") for name in numbers if name.startswith("img_")]
    assert len(names) == 9
    for name in names:
        assert cpbd(numbers[f"img_{name}"]) == pytest.approx(float(numbers[f"cpbd_{name}"]), abs=1e-12)
    assert cpbd(numbers["fixture_img"]) == pytest.approx(float(numbers["fixture_cpbd"]), abs=1e-12)


def test_published_stages(reference: Path) -> None:
    numbers = np.load(reference / "cpbd.npz")
    grey = numbers["stage_img"].astype(np.float64)
    np.testing.assert_array_equal(canny(grey), numbers["stage_canny"])
    np.testing.assert_array_equal(_sobel_edges(grey), numbers["stage_sobel"])
    np.testing.assert_array_equal(_edge_widths(grey, _sobel_edges(grey)), numbers["stage_widths"])


def test_widths_by_hand() -> None:
    row = np.array([10, 10, 10, 20, 60, 90, 100, 100, 100, 100.0])
    grey = np.tile(row, (6, 1))
    grey[5] = row[::-1]  # the picture must have angles other than 0 somewhere
    edges = np.zeros((6, 10), bool)
    edges[2, 4] = True
    # to the left 4 → 3 → 2, to the right 4 → 5 → 6
    assert _edge_widths(grey, edges)[2].tolist() == [0, 0, 0, 0, 4, 0, 0, 0, 0, 0]


def test_blur_lowers_it_and_flat_or_small_pictures_have_none(reference: Path) -> None:
    sharp = np.load(reference / "cpbd.npz")["img_astronaut_PIL_L"]
    blurred = [cpbd(gaussian_filter(sharp, s)) for s in (0.0, 0.5, 1.0, 2.0)]
    assert blurred == sorted(blurred, reverse=True) and blurred[-1] < 0.1 < blurred[0]
    assert cpbd(np.full((128, 128), 7, np.uint8)) == 0 == cpbd(sharp[:63, :63])


def test_grey_is_pillows() -> None:
    image = pytest.importorskip("PIL.Image")
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    expected = np.stack([np.asarray(image.fromarray(frame).convert("L")) for frame in frames])
    np.testing.assert_array_equal(grey_of(torch.from_numpy(frames)), expected)


def test_difference_punishes_both_directions(reference: Path) -> None:
    sharp = np.load(reference / "cpbd.npz")["img_astronaut_PIL_L"][:256, :256]
    sharp_frame, soft_frame = (
        torch.from_numpy(np.repeat(image[None, ..., None], 3, -1))
        for image in (sharp, gaussian_filter(sharp, 1))
    )
    plain, difference = CPBD(), CPBDDifference()
    for generated, truth in ((sharp_frame, soft_frame), (soft_frame, sharp_frame)):
        plain.update(Footage(0, generated, truth))
        difference.update(Footage(0, generated, truth))
    gap = cpbd(sharp) - cpbd(gaussian_filter(sharp, 1))
    assert gap > 0.05
    assert difference.compute().item() == pytest.approx(gap)
    assert plain.compute().item() == pytest.approx((cpbd(sharp) + cpbd(gaussian_filter(sharp, 1))) / 2)
