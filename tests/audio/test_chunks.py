"""Windows over long sequences and their joining."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from talkgen.audio.chunks import join, overlapping_windows


def test_windows_by_hand():
    assert overlapping_windows(7, 10, 4) == [(0, 7)]
    assert overlapping_windows(10, 10, 4) == [(0, 10)]
    assert overlapping_windows(11, 10, 4) == [(0, 10), (1, 11)]
    assert overlapping_windows(22, 10, 4) == [(0, 10), (6, 16), (12, 22)]


@pytest.mark.parametrize("length", range(1, 80, 3))
def test_windows_cover_everything_and_overlap(length):
    windows = overlapping_windows(length, 12, 5)
    assert windows[0][0] == 0 and windows[-1][1] == length
    for (start, stop), (next_start, next_stop) in pairwise(windows):
        assert stop - start == next_stop - next_start == 12
        assert start < next_start and stop - next_start >= 5


@pytest.mark.parametrize("length", [5, 40, 41, 99, 160])
@pytest.mark.parametrize("fade", [0, 1, 4, 100])
def test_pieces_of_one_array_join_to_that_array(length, fade):
    whole = np.random.default_rng(0).normal(size=(length, 3)).astype(np.float32)
    windows = overlapping_windows(length, 40, 10)
    joined = join(windows, (whole[a:b] for a, b in windows), fade)
    np.testing.assert_allclose(joined, whole, atol=1e-6)


def test_pieces_that_disagree_fade_in_the_middle_of_the_overlap():
    windows = [(0, 12), (4, 16)]  # overlap 4 … 11, middle 8
    pieces = [np.zeros((12, 1), np.float32), np.ones((12, 1), np.float32)]
    expected = [0] * 6 + [1 / 8, 3 / 8, 5 / 8, 7 / 8] + [1] * 6
    np.testing.assert_allclose(join(windows, pieces, fade=4)[:, 0], expected)
    np.testing.assert_allclose(join(windows, pieces, fade=100)[:, 0], expected)  # half the overlap at most
    np.testing.assert_allclose(join(windows, pieces, fade=0)[:, 0], [0] * 8 + [1] * 8)


def test_wrong_pieces_are_refused():
    with pytest.raises(ValueError, match="gave 9 steps"):
        join([(0, 10)], [np.zeros((9, 1), np.float32)], 2)
    with pytest.raises(ValueError, match="overlap"):
        overlapping_windows(100, 10, 10)
