"""Two-alternative forced choice, against hand-made embeddings."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from talkgen.metrics.sync_accuracy import SyncAccuracy


def test_perfect_reversed_and_ignorant_experts() -> None:
    unit = F.normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    for audio, expected in ((unit, 100.0), (-unit, 0.0), (torch.ones(12, 8), 50.0)):
        metric = SyncAccuracy([3])
        face = unit if expected != 50 else torch.ones(12, 8)
        metric.update(0, audio, face)
        assert metric.compute().item() == expected


def test_hand_computed_with_both_signs() -> None:
    # A window's face is e1, e2, e3; sounds are e1, e1, e3: windows 0 and 2 are heard right, window 1 is not.
    face = torch.eye(3)
    audio = torch.stack([torch.eye(3)[0], torch.eye(3)[0], torch.eye(3)[2]])
    metric = SyncAccuracy([1])
    metric.update(0, audio, face)
    # later sound: window 0: own 1, other (audio 1) 1 → ½; window 1: own 0, other 0 → ½
    # earlier sound: window 1: own 0, other (audio 0) 0 → ½; window 2: own 1, other 0 → 1
    assert metric.compute().item() == pytest.approx(100 * (0.5 + 0.5 + 0.5 + 1) / 4)


def test_clip_shorter_than_the_shift_has_no_value() -> None:
    metric = SyncAccuracy([5, 6])
    metric.update(0, torch.eye(4), torch.eye(4))
    assert metric.per_clip() == {}
    assert math.isnan(metric.compute().item())
    assert metric.column == "accuracy[%,shift=5..6]"


def test_shift_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        SyncAccuracy([0])
