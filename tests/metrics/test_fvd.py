from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen import weights
from talkgen.metrics import fvd
from talkgen.metrics.footage import Footage
from talkgen.metrics.frechet import frechet_distance
from talkgen.metrics.fvd import FVD


def test_published_distance_of_logits(reference: Path) -> None:
    numbers = np.load(reference / "frechet_kid.npz")
    x, y = (torch.from_numpy(numbers[f"fvd_{name}"]) for name in "XY")
    assert frechet_distance(x, y).item() == pytest.approx(float(numbers["fvd"]), rel=1e-6)


def test_stretches_go_over_the_ends_of_pieces_and_not_of_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def features(frames: Tensor) -> Tensor:
        seen.append(frames[:, 0, 0, 0].tolist())
        return frames.float().mean((1, 2, 3))[None, :4]

    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    (tmp_path / weights.entry("fvd_i3d").file).touch()
    monkeypatch.setattr(fvd, "i3d_features", lambda: features)
    metric = FVD()
    numbers = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 8, 8, 3)
    for clip in (0, 1):
        for start, stop in ((0, 10), (10, 30), (30, 40)):
            metric.update(Footage(clip, numbers[start:stop], numbers[start:stop]))
    assert seen[::2] == [list(range(16)), list(range(16, 32))] * 2
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_reversed_motion_counts_and_a_copy_does_not() -> None:
    if not weights.available("fvd_i3d"):
        pytest.skip("fvd_i3d is absent: talkgen weights get fvd_i3d")
    generator = torch.Generator().manual_seed(0)
    picture = torch.nn.functional.interpolate(
        torch.rand(1, 3, 12, 12, generator=generator), (64, 128), mode="bicubic"
    )[0]
    still = (picture.clamp(0, 1) * 255).byte().permute(1, 2, 0)
    panned = torch.stack([still[:, 4 * t : 4 * t + 64] for t in range(16)])
    moving, copy = FVD(), FVD()
    for clip, crop in enumerate((slice(0, 56), slice(8, 64))):
        truth = panned[:, crop, crop].contiguous()
        moving.update(Footage(clip, truth[:1].expand_as(truth).contiguous(), truth))
        copy.update(Footage(clip, truth, truth))
    assert copy.compute().item() == pytest.approx(0, abs=1e-3)
    assert moving.compute().item() > 10
