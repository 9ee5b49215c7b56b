"""benchmarks/evaluation.py: what is measured on a part of the clips, and how clips are written for it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from script_module import load_script

from talkgen.metrics.frechet import frechet_distance
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("benchmarks/evaluation.py", "benchmark_evaluation")


def test_matrix_roots_are_not_multiplied(script: ModuleType) -> None:
    assert script.for_all(30.0, 20.0, 5.0) == 70.0
    x, y = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0)).double()
    script._root_seconds.clear()
    torch.testing.assert_close(script.scipy_frechet(x, y), frechet_distance(x, y), rtol=1e-4, atol=1e-4)
    assert len(script._root_seconds) == 1 and script._root_seconds[0] >= 0


def test_clips_are_brought_to_a_size(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "work").mkdir()
    sound = np.sin(np.arange(4 * 640, dtype=np.float32) / 9) / 2
    with VideoWriter(tmp_path / "from" / "a.mp4", 25, 96, 64, 18, audio=(sound, 16000)) as writer:
        for _ in range(4):
            writer.write(np.full((64, 96, 3), 90, np.uint8))
    script.write_clips(tmp_path / "from", 2, 3, tmp_path / "work", 32)
    shapes = {
        frame.shape for name in ("true0", "made1") for frame in read_frames(tmp_path / f"work/{name}.mp4")
    }
    assert shapes == {(32, 48, 3)}
    bench = script.Bench(tmp_path / "work", 1)
    assert bench.limits == [3]
    assert script.Bench(tmp_path / "work").limits == [3, 3]
