"""Warping error, tOF and tLPIPS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen import weights
from talkgen.metrics.footage import Footage
from talkgen.metrics.frame_pairs import FramePairs
from talkgen.metrics.lpips import LPIPS, TLPIPS, lpips
from talkgen.metrics.optical_flow import farneback, fetch, occluded
from talkgen.metrics.warping_error import TOF, WarpingError, middle_slice, warping_error


def test_published_warping_error(reference: Path) -> None:
    numbers = np.load(reference / "warping.npz")
    first, second, flow, back = (numbers[f"we_{name}"] for name in ("img1", "img2", "fw", "bw"))
    np.testing.assert_array_equal(occluded(flow, back), numbers["we_occ"])
    assert warping_error(first, second, flow, back) == pytest.approx(float(numbers["we_err"]), rel=1e-5)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = torch.rand(1, 3, height // 6, width // 6, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    return (fine.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()


def panning(frames: int, step: int = 2, size: int = 96) -> Tensor:
    wide = texture(size, size + step * frames)
    return torch.from_numpy(np.stack([wide[:, step * t : step * t + size] for t in range(frames)]))


def test_flow_of_a_known_shift() -> None:
    video = panning(2, step=3).numpy()
    flow = farneback(video[0], video[1])
    inner = flow[24:-24, 24:-24]
    assert inner[..., 0].mean() == pytest.approx(-3, abs=0.15)
    assert abs(inner[..., 1].mean()) < 0.1
    fetched = fetch(video[1], flow)[24:-24, 24:-24]
    assert np.abs(fetched - video[0][24:-24, 24:-24]).mean() < 2


class Brightness(FramePairs):
    """Difference of neighbours' brightness."""

    column = "x"

    def pair_values(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        return generated.double().mean((1, 2, 3)).diff()


def test_pairs_go_over_the_borders_of_pieces_and_not_of_clips() -> None:
    values = torch.tensor([1, 2, 4, 8, 16, 32], dtype=torch.uint8)
    video = values[:, None, None, None].expand(6, 4, 4, 3)
    metric = Brightness()
    for clip in (0, 1):
        for piece in (slice(0, 1), slice(1, 4), slice(4, 6)):
            metric.update(Footage(clip, video[piece], video[piece]))
    assert metric.per_clip() == {0: pytest.approx(31 / 5), 1: pytest.approx(31 / 5)}
    metric.reset()
    metric.update(Footage(0, video[3:5], video[3:5]))
    assert metric.compute().item() == 8


def flickering(video: Tensor) -> Tensor:
    change = torch.where(torch.arange(len(video)) % 2 == 0, 6, -6)
    return (video.int() + change[:, None, None, None]).clamp(0, 255).byte()


def test_flicker_costs_and_a_copy_does_not() -> None:
    truth = panning(6)
    frozen = truth[:1].expand_as(truth)
    for metric, frozen_is_worse in ((WarpingError(), True), (TOF(), True)):
        found = []
        for generated in (truth, flickering(truth), frozen):
            metric.reset()
            metric.update(Footage(0, generated.contiguous(), truth))
            found.append(metric.compute().item())
        copy, flicker, still = found
        assert flicker > copy and (still > copy) == frozen_is_worse
    metric.reset()
    metric.update(Footage(0, truth, truth))
    assert metric.compute().item() == 0  # tOF of a copy
    assert still == pytest.approx(2, abs=0.3)  # tOF of what stands still: the true motion


def test_middle_of_tecogan() -> None:
    assert [middle_slice(n) for n in (96, 128, 47)] == [slice(16, 80), slice(16, 112), slice(23, 23)]


def need_lpips(net: str = "alex") -> None:
    if not weights.available(f"lpips_{net}"):
        pytest.skip(f"lpips_{net} is absent: talkgen weights get lpips_{net}")


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_package_with_the_real_weights(reference: Path, net: str) -> None:
    need_lpips(net)
    published = json.loads((reference / "real_weights.json").read_text())["lpips"][net]
    pictures = np.load(reference / "ssim_psnr_96.npz")
    damaged = torch.from_numpy(np.stack([pictures[f"{n}_96"] for n in ("noise8", "blur1.5", "shift1px")]))
    truth = torch.from_numpy(pictures["ref_96"])[None].expand(3, -1, -1, -1)
    np.testing.assert_allclose(lpips(damaged, truth, net), published, rtol=1e-4)  # type: ignore[arg-type]
    metric = LPIPS(net)  # type: ignore[arg-type]
    metric.update(Footage(0, damaged, truth))
    assert metric.compute().item() == pytest.approx(np.mean(published), rel=1e-4)


def test_lpips_of_the_mouth_sees_the_mouth_alone() -> None:
    need_lpips()
    truth = panning(2)
    elsewhere, there = truth.clone(), truth.clone()
    elsewhere[:, :30] = 0
    there[:, 66:76, 44:54] = 0
    points = torch.tensor([[40.0, 66.0], [58.0, 76.0]]).repeat(2, 10, 1)
    points[1] = torch.nan
    values = []
    for generated in (elsewhere, there):
        metric = LPIPS(region="mouth")
        metric.update(Footage(0, generated, truth, mouth_points=points))
        values.append(metric.compute().item())
    assert values[0] == 0 < values[1]  # the frame without points is left out
    assert metric.column == "LPIPS[alex,mouth]"


def test_tlpips_is_zero_for_a_copy_and_sees_flicker() -> None:
    need_lpips()
    truth = panning(4)
    found = []
    for generated in (truth, flickering(truth), truth[:1].expand_as(truth)):
        metric = TLPIPS()
        metric.update(Footage(0, generated[:2].contiguous(), truth[:2]))
        metric.update(Footage(0, generated[2:].contiguous(), truth[2:]))
        found.append(metric.compute().item())
    change = lpips(truth[1:], truth[:-1]).mean().item()
    assert found[0] == pytest.approx(0, abs=1e-5) and found[1] > 0.01
    assert found[2] == pytest.approx(100 * change, rel=1e-4)


def test_without_weights_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    for metric in (LPIPS("vgg"), TLPIPS("vgg")):
        metric.update(Footage(0, panning(2), panning(2)))
        assert metric.per_clip() == {} and "talkgen weights get lpips_vgg" in str(metric.lacking)
