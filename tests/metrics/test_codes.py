"""Use of a codebook, against hand-computed numbers."""

from __future__ import annotations

import math

import pytest
import torch

from talkgen.metrics.codes import ActiveCodes, CodePerplexity
from talkgen.metrics.footage import CodeIndices, Footage

FRAMES = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)


def footage(clip: int, codes: list[int], codebook: str = "lower") -> Footage:
    return Footage(clip, FRAMES, FRAMES, codes={codebook: CodeIndices(torch.tensor(codes).view(2, -1), 8)})


def test_union_over_clips_and_each_clip_alone() -> None:
    active, perplexity = ActiveCodes("lower"), CodePerplexity("lower")
    for metric in (active, perplexity):
        metric.update(footage(0, [1, 1, 2, 2]))
        metric.update(footage(1, [7, 7, 7, 7]))
        metric.update(footage(0, [1, 1, 3, 3]))
    assert active.per_clip() == {0: 3.0, 1: 1.0}
    assert active.compute().item() == 4
    half, quarter = 0.5, 0.25
    clip_0 = math.exp(-half * math.log(half) - 2 * quarter * math.log(quarter))
    assert perplexity.per_clip() == pytest.approx({0: clip_0, 1: 1.0})
    shares = [4 / 12, 2 / 12, 2 / 12, 4 / 12]
    assert perplexity.compute().item() == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


def test_equal_use_of_all_codes_is_the_codebook_size() -> None:
    perplexity = CodePerplexity("lower")
    perplexity.update(footage(0, list(range(8))))
    assert perplexity.compute().item() == pytest.approx(8)


def test_footage_of_another_codebook_is_left_out() -> None:
    active = ActiveCodes("upper")
    active.update(footage(0, [1, 2, 3, 4], "lower"))
    assert active.per_clip() == {}
    assert torch.isnan(active.compute())
    assert active.column == "active codes[upper]"
