"""A real clip, damaged in known ways: every metric notices what it is for, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from talkgen import weights
from talkgen.metrics import damage
from talkgen.metrics.blinks import BlinkRate, BlinkRateError, EyesShut
from talkgen.metrics.cpbd import CPBD, CPBDDifference
from talkgen.metrics.fid import FID, KID
from talkgen.metrics.footage import Footage
from talkgen.metrics.fvd import FVD
from talkgen.metrics.jerk import JerkRatio
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.lip_sync_error import LipSyncError
from talkgen.metrics.lmd import LMD
from talkgen.metrics.lpips import LPIPS, TLPIPS
from talkgen.metrics.mouth_opening import MouthOpeningCorrelation
from talkgen.metrics.niqe import NIQE
from talkgen.metrics.psnr import PSNR
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.ssim import SSIM
from talkgen.metrics.warping_error import TOF, WarpingError

SIZE, FRAMES = 256, 50


@dataclass(frozen=True)
class Clip:
    """Two seconds with speech and blinks, and what a detector sees in them."""

    frames: Tensor
    landmarks: Tensor
    sound: Tensor
    detect: Callable[[Tensor], Tensor]

    def show(self, metric: Any, generated: Tensor, frames: slice = slice(None), detect: bool = True) -> float:
        """The metric's value for damaged frames against the true ones."""
        if isinstance(metric, NeedsWeights) and metric.lacking is not None:
            pytest.skip(str(metric.lacking))
        truth, points = self.frames[frames], self.landmarks[frames]
        found = self.detect(generated) if detect else points
        metric.update(
            Footage(
                0,
                generated,
                truth,
                mouth_points=points[:, 48:],
                generated_landmarks=found,
                ground_truth_landmarks=points,
                sound=self.sound,
            )
        )
        return metric.compute().item()


@pytest.fixture(scope="module")
def clip(shared: Path) -> Clip:
    from talkgen.audio.waveform import load_waveform
    from talkgen.video.reader import read_frames

    source = open_landmark_source()
    if not isinstance(source, LandmarkSource):
        pytest.skip(str(source))
    file = shared / "realclips" / "clips" / "aoc_a.mp4"
    frames = [cv2.resize(f, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for f in read_frames(file, fps=25)]
    pictures = torch.from_numpy(np.stack(frames[:FRAMES]))
    sound = torch.from_numpy(load_waveform(file)[: FRAMES * 640])
    seen: dict[bytes, Tensor] = {}

    def detect(generated: Tensor) -> Tensor:
        key = generated.numpy().tobytes()
        if key not in seen:
            seen[key] = source(generated)
        return seen[key]

    return Clip(pictures, detect(pictures), sound, detect)


@cache
def few() -> slice:
    """Some frames, for what looks at single pictures."""
    return slice(0, FRAMES, 10)


SHARPNESS: dict[str, tuple[Callable[[], Any], int]] = {  # +1: rises with blur, -1: falls
    "psnr": (PSNR, -1),
    "ssim": (SSIM, -1),
    "ssim, mouth": (lambda: SSIM(region="mouth"), -1),
    "lpips, alex": (LPIPS, 1),
    "lpips, mouth": (lambda: LPIPS(region="mouth"), 1),
    "lpips, vgg": (lambda: LPIPS("vgg"), 1),
    "cpbd": (CPBD, -1),
    "cpbd, difference": (CPBDDifference, 1),
    "niqe": (NIQE, 1),
}


VGG = pytest.param("lpips, vgg", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [*(name for name in SHARPNESS if name != "lpips, vgg"), VGG])
def test_blur_is_noticed_the_more_the_stronger_it_is(clip: Clip, name: str) -> None:
    make, sign = SHARPNESS[name]
    true = clip.frames[few()]
    levels = [true, *(damage.blur(true, sigma) for sigma in (0.7, 1.5, 3.0))]
    values = [sign * clip.show(make(), frames, few(), detect=False) for frames in levels]
    assert values == sorted(values) and len(set(values)) >= 3


@pytest.mark.parametrize("name", ["psnr", "ssim", "ssim, mouth", "lpips, alex", "lpips, mouth", VGG])
def test_jpeg_is_noticed_the_more_the_worse_it_is(clip: Clip, name: str) -> None:
    make, sign = SHARPNESS[name]
    true = clip.frames[few()]
    levels = [true, *(damage.jpeg(true, quality) for quality in (90, 50, 15))]
    values = [sign * clip.show(make(), frames, few(), detect=False) for frames in levels]
    assert values == sorted(values) and len(set(values)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("metric", [FID, KID])
def test_distributions_of_damaged_frames_move_away(clip: Clip, metric: type[FID]) -> None:
    true = clip.frames[few()]
    values = [
        clip.show(metric(), frames, few(), detect=False)
        for frames in (true, damage.blur(true, 0.7), damage.blur(true, 2.5))
    ]
    assert values == sorted(values) and values[2] > values[1] + 1
    assert clip.show(metric(), damage.jpeg(true, 15), few(), detect=False) > values[0] + 1


@pytest.mark.slow
def test_fvd_notices_a_clip_that_stands_still(clip: Clip) -> None:
    part = slice(0, 48)
    true = clip.frames[part]
    assert clip.show(FVD(), true, part, detect=False) == pytest.approx(0, abs=1e-3)
    still = true[:1].expand_as(true).contiguous()
    assert clip.show(FVD(), still, part, detect=False) > 20


@pytest.fixture(scope="module")
def frozen_mouth(clip: Clip) -> Tensor:
    return damage.freeze_mouth(clip.frames, clip.landmarks, 0)


def test_a_frozen_mouth(clip: Clip, frozen_mouth: Tensor) -> None:
    blurred = damage.blur(clip.frames, 0.7)
    for convention in ("mouth", "mouth,centred", "mouth,pose-free"):
        noise = clip.show(LMD(convention), blurred)  # of the detector
        assert clip.show(LMD(convention), frozen_mouth) > 1.5 * noise, convention
    assert clip.show(MouthOpeningCorrelation(), blurred) > 0.9
    assert clip.show(MouthOpeningCorrelation(), frozen_mouth) < 0.6
    assert clip.show(PSNR(region="mouth"), frozen_mouth) < clip.show(PSNR(), frozen_mouth) - 3


def test_a_frozen_mouth_changes_neither_blinks_nor_the_rest_of_the_face(
    clip: Clip, frozen_mouth: Tensor
) -> None:
    assert clip.show(BlinkRateError("fixed"), frozen_mouth) == 0
    above = slice(0, int(clip.landmarks[:, 36:48, 1].max()))
    assert torch.equal(frozen_mouth[:, above], clip.frames[:, above])


def test_dropped_blinks(clip: Clip) -> None:
    awake = damage.freeze_eyes(clip.frames, clip.landmarks, 0)
    for detector in ("fixed", "peaks"):
        rate = clip.show(BlinkRate(detector), clip.frames)  # type: ignore[arg-type]
        assert 0.4 < rate < 2
        assert clip.show(BlinkRate(detector), awake) == 0  # type: ignore[arg-type]
        assert clip.show(BlinkRateError(detector), awake) == pytest.approx(rate)  # type: ignore[arg-type]
    assert clip.show(EyesShut(), awake) < clip.show(EyesShut(), clip.frames)


def test_trembling_and_flicker(clip: Clip) -> None:
    trembling, flickering = damage.tremble(clip.frames, 2), damage.flicker(clip.frames, 4)
    assert clip.show(JerkRatio(), clip.frames) == pytest.approx(1)
    assert clip.show(JerkRatio(), trembling) > 1.5
    part = slice(0, 16)
    for metric in (WarpingError, TOF, TLPIPS):
        true = clip.show(metric(), clip.frames[part], part, detect=False)
        shaken = clip.show(metric(), trembling[part], part, detect=False)
        assert shaken > 1.5 * true + 1e-6, metric.column if hasattr(metric, "column") else metric
    calm = clip.show(WarpingError(), clip.frames[part], part, detect=False)
    assert clip.show(WarpingError(), flickering[part], part, detect=False) > 1.5 * calm


@pytest.mark.slow
def test_sound_that_is_moved_moves_the_offset(clip: Clip) -> None:
    if not weights.available("syncnet_v2"):
        pytest.skip("syncnet_v2 is absent: talkgen weights get syncnet_v2")
    values = {}
    for shift in (0, 4):  # frames, late
        moved = Clip(clip.frames, clip.landmarks, clip.sound.roll(shift * 640), clip.detect)
        values[shift] = [moved.show(LipSyncError(r, "lossless"), clip.frames) for r in ("offset", "distance")]
    assert values[4][0] >= values[0][0] + 2
    other = Clip(clip.frames, clip.landmarks, clip.sound.flip(0), clip.detect)
    own = clip.show(LipSyncError("confidence", "lossless"), clip.frames)
    assert other.show(LipSyncError("confidence", "lossless"), clip.frames) < own - 1
