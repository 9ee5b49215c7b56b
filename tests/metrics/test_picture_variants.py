from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.metrics.footage import Footage
from talkgen.metrics.picture_variants import VARIANTS, PictureVariant, wrapped_psnr

PUBLISHED = {
    "skimage gray win7": ("SSIM[skimage,grey]", 1e-6),
    "skimage gaussian gray": ("SSIM[wang,grey]", 1e-6),
    "piq.ssim default (downsample=True)": ("SSIM[piq]", 1e-4),
    "torchmetrics data_range=1": ("SSIM[torchmetrics]", 1e-4),
    "torchmetrics data_range=None (max-min of the batch)": ("SSIM[torchmetrics,range of pair]", 1e-4),
    "skimage on [0,1] floats but data_range=2 (pre-0.19 float default)": ("SSIM[skimage,range 2]", 1e-6),
    "PSNR gray": ("PSNR[grey]", 1e-6),
    "PSNR ATVGnet uint8-wraparound gray": ("PSNR[atvgnet,bytes wrap]", 1e-6),
}


def compare(vectors: np.lib.npyio.NpzFile, size: int) -> None:
    for damage in ("noise8", "blur1.5", "shift1px"):
        expected = dict(zip(map(str, vectors["names"]), vectors[f"vals_{damage}_{size}"], strict=True))
        pair = [torch.from_numpy(vectors[f"{name}_{size}"])[None] for name in (damage, "ref")]
        for name, (column, tolerance) in PUBLISHED.items():
            assert VARIANTS[column](*pair).item() == pytest.approx(expected[name], abs=tolerance), name


def test_published_values(reference: Path) -> None:
    assert {column for column, _ in PUBLISHED.values()} == set(VARIANTS)
    compare(np.load(reference / "ssim_psnr_96.npz"), 96)


@pytest.mark.parametrize("size", [256, 512])
def test_published_values_at_larger_sizes(shared: Path, size: int) -> None:
    compare(np.load(shared / "parity" / "f_ssim_psnr.npz"), size)


def test_unrelated_noise_scores_28_db_where_bytes_wrap() -> None:
    noise = torch.randint(0, 256, (2, 200, 200, 1), generator=torch.Generator().manual_seed(0)).byte()
    pair = noise.expand(-1, -1, -1, 3).split(1)
    assert wrapped_psnr(*pair).item() == pytest.approx(27.9, abs=0.1)
    assert VARIANTS["PSNR[grey]"](*pair).item() == pytest.approx(7.8, abs=0.1)


def test_metric_and_unknown_names() -> None:
    frames = torch.full((2, 16, 16, 3), 100, dtype=torch.uint8)
    metric = PictureVariant("PSNR[grey]")
    metric.update(Footage(3, frames + 10, frames))
    assert metric.per_clip() == {3: pytest.approx(20 * np.log10(25.5))}
    with pytest.raises(ValueError, match=r"PSNR\[grey\]"):
        PictureVariant("PSNR[red]")
