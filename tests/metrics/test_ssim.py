"""SSIM against hand-computed numbers and published implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.metrics.footage import Footage
from talkgen.metrics.ssim import SSIM, ssim, ssim_map

WANG = "skimage gaussian s1.5 pop-cov (Wang)"
SKIMAGE = "skimage default win7 uniform, channel mean"


def test_flat_pictures_have_only_the_luminance_term() -> None:
    a, b = (torch.full((1, 32, 32, 3), v, dtype=torch.uint8) for v in (100, 150))
    c1 = 2.55**2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    for window in ("gaussian11", "uniform7"):
        assert ssim(a, b, window).item() == pytest.approx(expected, abs=1e-9)


def test_identical_is_one_and_inverted_is_negative() -> None:
    noise = torch.randint(0, 256, (2, 40, 40, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert ssim(noise, noise).tolist() == pytest.approx([1.0, 1.0], abs=1e-9)
    assert ssim(noise, 255 - noise).max() < -0.5


def test_only_whole_windows_count() -> None:
    a = torch.zeros(1, 32, 48, 3, dtype=torch.uint8)
    assert ssim_map(a, a, "gaussian11").shape == (1, 22, 38)
    assert ssim_map(a, a, "uniform7").shape == (1, 26, 42)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim_map(a[:, :8], a[:, :8])


def test_mouth_region_averages_the_windows_centred_in_it() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(0, 256, (1, 64, 64, 3), generator=generator).to(torch.uint8)
    damaged = truth.clone()
    damaged[:, :20] = 0  # far above the mouth: no window centred in it reaches row 19
    points = torch.tensor([[26.0, 44.0], [38.0, 52.0]]).repeat(1, 10, 1)
    footage = Footage(0, damaged, truth, mouth_points=points)
    mouth, full = SSIM(region="mouth"), SSIM()
    mouth.update(footage)
    full.update(footage)
    assert mouth.compute().item() == pytest.approx(1.0, abs=1e-9)
    assert full.compute().item() < 0.8
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 20, 30] = True
    at_one_point = ssim(damaged, truth, mask=mask).item()
    assert at_one_point == pytest.approx(ssim_map(damaged, truth)[0, 15, 25].item())


@pytest.mark.parametrize("damage", ["noise8", "blur1.5", "shift1px"])
def test_parity(reference: Path, damage: str) -> None:
    compare(np.load(reference / "ssim_psnr_96.npz"), damage, 96)


@pytest.mark.parametrize("damage", ["noise8", "blur1.5", "shift1px"])
@pytest.mark.parametrize("size", [256, 512])
def test_parity_at_larger_sizes(shared: Path, damage: str, size: int) -> None:
    compare(np.load(shared / "parity" / "f_ssim_psnr.npz"), damage, size)


def compare(vectors: np.lib.npyio.NpzFile, damage: str, size: int) -> None:
    expected = dict(zip(vectors["names"], vectors[f"vals_{damage}_{size}"], strict=True))
    pair = [torch.from_numpy(vectors[f"{name}_{size}"])[None] for name in (damage, "ref")]
    assert ssim(*pair).item() == pytest.approx(expected[WANG], abs=1e-8)
    assert ssim(*pair).item() == pytest.approx(expected["pytorch_msssim.ssim"], abs=1e-4)
    assert ssim(*pair).item() == pytest.approx(expected["piq.ssim downsample=False"], abs=1e-4)
    assert ssim(*pair, window="uniform7").item() == pytest.approx(expected[SKIMAGE], abs=1e-8)


def test_columns_say_the_variant() -> None:
    assert [SSIM().column, SSIM("uniform7").column] == ["SSIM[wang]", "SSIM[skimage]"]
    assert SSIM("uniform7", "mouth").column == "SSIM[skimage,mouth]"
