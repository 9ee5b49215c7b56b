"""Features on disk: found again by content, let go by age, and never trusted when damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from talkgen.metrics.feature_cache import FeatureCache, current_cache, remembering
from talkgen.metrics.shared_features import SharedFeatures, named


def counting() -> tuple[list[Tensor], SharedFeatures]:
    calls: list[Tensor] = []
    return calls, SharedFeatures(lambda x: calls.append(x) or x * 2.0, name="twice")


def test_another_process_finds_what_was_computed(tmp_path: Path) -> None:
    x = torch.arange(4)
    cache = FeatureCache(tmp_path, 10**6)
    with remembering(cache):
        calls, shared = counting()
        first = shared(x)
        again, fresh = counting()  # as another process: nothing in memory
        torch.testing.assert_close(fresh(x), first)
        assert (len(calls), len(again)) == (1, 0) and (cache.kept, cache.found) == (1, 1)
        other = SharedFeatures(lambda y: y * 3.0, name=named("twice", {"net": "abc"}))
        assert other(x).tolist() == [0, 3, 6, 9]  # other weights, other results
    assert current_cache() is None
    outside, unkept = counting()
    unkept(x)
    assert len(outside) == 1


def test_damaged_files_are_computed_anew(tmp_path: Path) -> None:
    with remembering(FeatureCache(tmp_path, 10**6)):
        counting()[1](torch.ones(3))
        (file,) = tmp_path.glob("*/*.npy")
        file.write_bytes(file.read_bytes()[:-4])
        calls, shared = counting()
        assert shared(torch.ones(3)).tolist() == [2, 2, 2] and len(calls) == 1
        assert counting()[1](torch.ones(3)).tolist() == [2, 2, 2]


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 2500)
    for number, key in enumerate(("aa1", "bb2", "cc3")):
        cache.put(key, np.zeros(100, np.float64))  # 928 bytes with its header
        os.utime(cache._file(key), (number, number))
    assert cache.get("aa1") is not None  # now the youngest
    assert cache.trim() <= 2500
    assert cache.get("bb2") is None
    assert cache.get("aa1") is not None and cache.get("cc3") is not None
