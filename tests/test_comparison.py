from __future__ import annotations

from pathlib import Path

import pytest

from talkgen.comparison import _cell, _missing
from talkgen.errors import TalkgenError
from talkgen.metrics.psnr import PSNR
from talkgen.metrics.required_weights import NeedsWeights


class Looked(PSNR, NeedsWeights):
    """A metric with a file of its own."""

    weight_names = ("lpips_alex",)

    def __init__(self, column: str, needs: set[str]) -> None:
        super().__init__()
        self.column, self.needs = column, frozenset(needs)


def test_what_is_missing_is_said_once_with_all_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    metrics = [PSNR(), Looked("A", {"truth"}), Looked("B", {"truth", "landmarks"})]
    detector = TalkgenError("no detector; talkgen weights get scrfd_500m")
    lines = _missing(metrics, {"landmarks": detector})
    assert len(lines) == 2
    own, shared = sorted(lines, key=len, reverse=True)
    assert own.startswith("n/a in A, B: ") and "talkgen weights get lpips_alex" in own
    assert shared == "n/a in B: no detector; talkgen weights get scrfd_500m"
    absent = [_cell(metric, ["clip"], {"landmarks": detector}).absent for metric in metrics]
    assert absent == ["–", "n/a", "n/a"]  # the first has seen nothing, but could
    assert _missing(metrics[:1], {"landmarks": detector}) == []
