from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from talkgen import weights
from talkgen.errors import FileError
from talkgen.metrics.footage import Footage
from talkgen.metrics.niqe import NIQE, Pristine, _asymmetric_gaussian, _halved, load_pristine, niqe


@pytest.fixture
def pristine() -> Pristine:
    if not weights.available("niqe_pristine"):
        pytest.skip("niqe_pristine is absent: talkgen weights get niqe_pristine")
    return load_pristine(weights.find("niqe_pristine"))


@pytest.mark.parametrize("picture", ["astronaut", "coffee", "chelsea"])
def test_published_values(reference: Path, pristine: Pristine, picture: str) -> None:
    data: Any = pytest.importorskip("skimage.data")
    published = json.loads((reference / "niqe.json").read_text())
    frame = getattr(data, picture)()
    assert niqe(frame, pristine) == pytest.approx(published[f"basicsr_y_{picture}"], rel=2e-5)
    # OpenCV's grey lies on a half in many pixels, and its versions round those differently.
    grey = niqe(frame, pristine, "gray")
    assert grey == pytest.approx(published[f"basicsr_gray_{picture}"], rel=2e-3)


def test_damage_raises_it(pristine: Pristine) -> None:
    data: Any = pytest.importorskip("skimage.data")
    sharp = data.astronaut()
    blurred = gaussian_filter(sharp, (2, 2, 0))
    noisy = (sharp + np.random.default_rng(0).normal(0, 15, sharp.shape)).clip(0, 255).astype(np.uint8)
    value = niqe(sharp, pristine)
    assert niqe(blurred, pristine) > value + 2 and niqe(noisy, pristine) > value + 2


def test_halving_keeps_means_and_straight_lines() -> None:
    ramp = np.add.outer(np.arange(32.0), 3 * np.arange(40.0)).astype(np.float32)
    half = _halved(ramp)
    assert half.shape == (16, 20)
    inner = ramp[1::2, 1::2][2:-2, 2:-2] - 2  # halfway between pixels 2k and 2k + 1
    np.testing.assert_allclose(half[2:-2, 2:-2], inner, atol=1e-3)
    np.testing.assert_allclose(_halved(np.full((8, 8), 5, np.float32)), 5, rtol=1e-6)


def test_gaussian_values_have_shape_two() -> None:
    values = np.random.default_rng(0).normal(0, 3, (1, 400, 400)).astype(np.float32)
    shape, left, right = _asymmetric_gaussian(values)
    assert shape[0] == pytest.approx(2, abs=0.03)
    np.testing.assert_allclose([left[0], right[0]], 3 * np.sqrt(2), rtol=0.02)


def test_small_frames_have_no_value_and_steps_are_kept(pristine: Pristine) -> None:
    frames = torch.randint(0, 256, (5, 200, 200, 3), generator=torch.Generator().manual_seed(0)).byte()
    assert np.isnan(niqe(frames[0, :191].numpy(), pristine))
    metric = NIQE(every=2)
    metric.update(Footage(0, frames, frames))
    expected = np.mean([niqe(frames[t].numpy(), pristine) for t in (0, 2, 4)])
    assert metric.per_clip() == {0: pytest.approx(expected)}


def test_without_statistics_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    metric = NIQE()
    frames = torch.zeros(1, 200, 200, 3, dtype=torch.uint8)
    metric.update(Footage(0, frames, frames))
    assert metric.per_clip() == {} and "weights get niqe_pristine" in str(metric.lacking)
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(FileError, match="statistics of NIQE"):
        load_pristine(tmp_path / "other.npz")
