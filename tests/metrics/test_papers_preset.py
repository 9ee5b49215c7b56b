"""The preset with the papers' columns: it builds, and lacks nothing but weights where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from talkgen.metrics.footage import Footage
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.table import measured_cell

PRESET = Path(__file__).resolve().parents[2] / "configs" / "metrics" / "papers.yaml"


@pytest.fixture
def columns() -> list[Any]:
    cfg = OmegaConf.create(
        {"recogniser": "edgeface_s", "sync_expert": None, "metrics": OmegaConf.load(PRESET)}
    )
    return [instantiate(node) for node in cfg.metrics.values()]


def test_every_column_has_a_name_of_its_own(columns: list[Any]) -> None:
    names = [metric.column for metric in columns]
    assert len(set(names)) == len(names) == 45
    assert {"FID[pytorch-fid,every 5]", "LSE-C[exact,track]", "blinks/s[fixed]"} <= set(names)


def test_without_any_weights_there_are_notes_and_no_crash(
    columns: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 256, (12, 96, 96, 3), generator=generator).byte()
    points = (torch.rand(12, 68, 2, generator=generator) * 60 + 20).float()
    vectors = torch.nn.functional.normalize(torch.randn(12, 8, generator=generator))
    footage = Footage(
        0,
        truth.flip(0),
        truth,
        mouth_points=points[:, 48:],
        generated_landmarks=points.flip(0),
        ground_truth_landmarks=points,
        corpus_landmarks=points,
        identities=vectors,
        gallery=vectors[:3],
        wanted=1,
        sound=torch.zeros(12 * 640),
    )
    silent = set()
    for metric in columns:
        metric.update(footage)
        cell = measured_cell(metric, ["clip"])
        if isinstance(metric, NeedsWeights):
            assert cell.value is None
            assert "weights" in str(metric.lacking) or "train one with" in str(metric.lacking)
            silent.add(metric.column.split("[")[0])
        else:
            assert cell.value is not None, metric.column
    assert silent == {
        "sync confidence",
        "sync distance",
        "abs sync offset",
        *("FID", "KID×1000", "FVD", "LPIPS", "NIQE", "LSE-C", "LSE-D", "abs AV offset", "pose error"),
        "expression error",
        "tLPIPS×100",
    }
