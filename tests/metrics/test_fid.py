"""FID and KID: the published programs' numbers on the same pictures, and properties of the distances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen import weights
from talkgen.metrics.fid import FID, KID
from talkgen.metrics.footage import Footage
from talkgen.metrics.frechet import frechet_distance, kernel_distance


@pytest.mark.parametrize("case", ["D8_N200", "D64_N500", "D64_N40_singular"])
def test_published_frechet_distances(reference: Path, case: str) -> None:
    numbers = np.load(reference / "frechet_kid.npz")
    x, y = (torch.from_numpy(numbers[f"{case}_{name}"]) for name in "XY")
    # Where covariances are singular, the published programs put 1e-6 on their diagonals.
    np.testing.assert_allclose(frechet_distance(x, y), numbers[f"{case}_fid"], rtol=1e-7)


def test_2048_dimensions_and_300_vectors(reference: Path) -> None:
    published = np.load(reference / "frechet_kid.npz")["D2048_N300_singular_fid"]
    rng, d = np.random.RandomState(7004), 2048
    mixing = rng.randn(d, d) / np.sqrt(d)
    x = np.abs(rng.randn(300, d) @ mixing) * 0.5
    y = np.abs(rng.randn(300, d) @ mixing) * 0.5 + 0.05 * rng.randn(d)
    np.testing.assert_allclose(
        frechet_distance(torch.from_numpy(x), torch.from_numpy(y)), published, rtol=1e-6
    )


def test_one_dimension_by_hand() -> None:
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])  # means 1, 5; variances 2, 8
    expected = (5 - 1) ** 2 + (np.sqrt(8) - np.sqrt(2)) ** 2
    assert frechet_distance(x, y).item() == pytest.approx(expected)
    assert np.isnan(frechet_distance(x[:1], y).item())


def test_more_vectors_than_dimensions_take_another_road_to_the_same_number() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    y = 0.5 + 2 * torch.randn(40, 6, generator=generator, dtype=torch.float64)
    padded = [torch.cat([z, torch.zeros(len(z), 60, dtype=torch.float64)], 1) for z in (x, y)]
    torch.testing.assert_close(frechet_distance(x, y), frechet_distance(*padded))


def test_published_kernel_distance(reference: Path) -> None:
    numbers = np.load(reference / "frechet_kid.npz")
    x, y = (torch.from_numpy(numbers[f"KID_{name}"]) for name in "XY")
    assert kernel_distance(x, y).item() == pytest.approx(float(numbers["KID"]), rel=1e-10)


def test_kernel_distance_by_hand() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    within_x, within_y = 1.0, 27.0  # (0 · 1 + 1)³ and (1 · 2 + 1)³, the one pair of each
    between = (1 + 1 + 8 + 27) / 4
    assert kernel_distance(x, y).item() == pytest.approx(within_x + within_y - 2 * between)


def pictures(reference: Path) -> tuple[Tensor, Tensor]:
    """Two sets of 36 crops of 64 pixels, every 6 pixels of an astronaut and of her blurred picture."""
    numbers = np.load(reference / "ssim_psnr_96.npz")
    places = [(y, x) for y in range(0, 33, 6) for x in range(0, 33, 6)]
    sets = (
        np.stack([numbers[name][y : y + 64, x : x + 64] for y, x in places])
        for name in ("ref_96", "blur1.5_96")
    )
    first, second = (torch.from_numpy(s) for s in sets)
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("program", ["pytorch-fid", "torch-fidelity", "clean-fid"])
def test_programs_numbers_with_the_real_weights(reference: Path, program: str) -> None:
    if not weights.available("fid_inception"):
        pytest.skip("fid_inception is absent: talkgen weights get fid_inception")
    published = json.loads((reference / "real_weights.json").read_text())
    true, damaged = pictures(reference)
    fid, kid = FID(program), KID(program)  # type: ignore[arg-type]
    for clip in (0, 1):
        footage = Footage(clip, damaged[clip::2], true[clip::2])
        fid.update(footage)
        kid.update(footage)
    assert fid.compute().item() == pytest.approx(published["fid"][program], rel=1e-5)
    if program in published["kid"]:
        assert kid.compute().item() / 1000 == pytest.approx(published["kid"][program], rel=1e-5)
    assert fid.per_clip() == {} and not fid.has_interval
    assert set(fid.digests) == {"fid_inception"}


def test_without_weights_there_is_no_number_but_a_cure(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    metric = FID()
    metric.update(Footage(0, *pictures(reference)))
    assert torch.isnan(metric.compute())
    assert "talkgen weights get fid_inception" in str(metric.lacking) and metric.digests == {}


def test_variants_have_names() -> None:
    assert [FID().column, FID("clean-fid", every=5).column] == [
        "FID[pytorch-fid]",
        "FID[clean-fid,every 5]",
    ]
    with pytest.raises(ValueError, match="clean-fid"):
        FID("clean")  # type: ignore[arg-type]
