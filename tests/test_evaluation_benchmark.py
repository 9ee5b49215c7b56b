"""The benchmark of evaluation counts as one script what one published script prints."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from script_module import load_script

from talkgen.configuration import config_folder
from talkgen.metrics.frechet import frechet_distance


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script("benchmarks/evaluation.py", "evaluation_benchmark")


def test_groups_are_columns_of_the_preset(benchmark: ModuleType) -> None:
    nodes = dict(OmegaConf.load(config_folder() / "metrics" / "papers.yaml"))
    grouped = [name for group in benchmark.ONE_SCRIPT for name in group]
    assert set(grouped) <= set(nodes) and len(set(grouped)) == len(grouped)
    assert benchmark.LAST in nodes
    made = benchmark.scripts(nodes)
    assert sorted(name for columns in made.values() for name in columns) == sorted(nodes)
    assert list(made["psnr + ssim"]) == ["psnr", "ssim"]


def test_scipys_root_gives_the_same_distance(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(shift, 1, (50, 8))) for shift in (0, 1))
    assert float(benchmark.scipy_frechet(x, y)) == pytest.approx(float(frechet_distance(x, y)), rel=1e-5)
    with benchmark.scipy_root():
        from talkgen.metrics import fid

        assert fid.frechet_distance is benchmark.scipy_frechet
    assert fid.frechet_distance is frechet_distance


def test_times_faster_is_of_all_scripts(benchmark: ModuleType) -> None:
    found = {
        "together": {"together": 2.0, "memory": 900.0},
        "cached": {"": 2.0, "one more": 1.0, "again": 0.5, "memory": 950.0},
        "psnr": {"psnr": 4.0, "memory": 700.0},
        "lpips": {"lpips": 6.0, "memory": 800.0},
    }
    lines = benchmark.table(found, 2, "lpips")
    assert lines[2] == "| all 2 columns | 10 | 2.0 | 5.0 | 800 | 900 |"
    assert lines[-2:] == ["| `lpips` | 6.0 |", "| `psnr` | 4.0 |"]
