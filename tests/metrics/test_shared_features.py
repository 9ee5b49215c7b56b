from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from talkgen import weights
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.shared_features import SharedFeatures, content_hash


def test_equal_content_is_computed_once() -> None:
    calls: list[Tensor] = []
    shared = SharedFeatures(lambda x: calls.append(x) or x * 2, entries=2)
    first = torch.arange(4)
    assert shared(first).tolist() == [0, 2, 4, 6] == shared(first.clone()).tolist()
    assert len(calls) == 1
    shared(torch.arange(5))
    shared(first)  # used again, so that it stays
    shared(torch.arange(6))
    shared(first)
    assert len(calls) == 3
    shared(torch.arange(5))  # was let go
    assert len(calls) == 4


def test_type_shape_and_values_count() -> None:
    x = torch.arange(6, dtype=torch.uint8)
    others = [x.view(2, 3), x.to(torch.int8), x.flip(0), torch.arange(7, dtype=torch.uint8)]
    assert len({content_hash(y) for y in [x, *others]}) == 5
    assert content_hash(x[::2]) == content_hash(torch.tensor([0, 2, 4], dtype=torch.uint8))
    assert content_hash(x, x.flip(0)) != content_hash(x.flip(0), x)


def test_lacking_and_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(NeedsWeights):
        weight_names = ("niqe_pristine", "hopenet")

    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    assert "weights get niqe_pristine" in str(Two().lacking) and Two().digests == {}
    file = tmp_path / weights.entry("niqe_pristine").file
    file.write_bytes(b"x")
    assert "weights import hopenet" in str(Two().lacking)
    assert Two().digests == {"niqe_pristine": hashlib.sha256(b"x").hexdigest()}
