"""Motion out of noise: guidance, carried frames, any length, and a schedule that ends in noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.errors import TalkgenError
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.noise import motion_schedule
from talkgen.models.disenttalk.sampling import Guidance, Windowing, guided, sample_window, sample_windows

DIFFUSION = GaussianDiffusion(motion_schedule(), "x0", learned_range=False)


@pytest.fixture(scope="module")
def net() -> MotionDenoiser:
    torch.manual_seed(0)
    return MotionDenoiser((3, 2, 4), 5, width=16, blocks=1, heads=2).eval()


HEARD = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_guidance_is_what_its_convention_says(net: MotionDenoiser) -> None:
    x = torch.randn(2, 12, 9)
    t = torch.full((2,), 200)
    c = net(x, t, HEARD)
    u = net(x, t, HEARD, None, torch.tensor([True, True]))
    for guidance, wanted in (
        (Guidance(1.0), c),
        (Guidance(2.0), u + 2 * (c - u)),
        (Guidance(2.5, "c+s(c-u)"), c + 2.5 * (c - u)),
        (Guidance(0.0, "c+s(c-u)"), c),
    ):
        made = guided(net, DIFFUSION, HEARD, guidance)(x, 200)
        torch.testing.assert_close(made.x0, wanted, atol=1e-5, rtol=1e-4)
    assert not Guidance(0.0, "c+s(c-u)").active and Guidance(0.0).active
    with pytest.raises(ValueError, match="convention"):
        Guidance(1.0, "s(c-u)")  # type: ignore[arg-type]


def test_the_sound_is_encoded_once(net: MotionDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"remember": 0, "denoise": 0}
    for name in calls:
        original = getattr(net, name)

        def counted(*args: object, _name: str = name, _original: object = original, **kw: object) -> object:
            calls[_name] += 1
            return _original(*args, **kw)  # type: ignore[operator]

        monkeypatch.setattr(net, name, counted)
    sample_window(net, DIFFUSION, DPMSolver(10), HEARD, Guidance(2.0))
    assert calls == {"remember": 1, "denoise": 10}  # both branches of guidance are one call


@pytest.mark.parametrize("sampler", [DPMSolver(6), DDIM(6, spacing="trailing")])
def test_carried_frames_stay_as_they_are(net: MotionDenoiser, sampler: DPMSolver | DDIM) -> None:
    carried = torch.randn(2, 3, 9)
    generator = torch.Generator().manual_seed(0)
    made = sample_window(net, DIFFUSION, sampler, HEARD, None, carried, generator)
    torch.testing.assert_close(made[:, :3], carried)
    assert made[:, 3:].std() > 0.01


def test_any_length_comes_in_windows_and_a_seed_means_the_same(net: MotionDenoiser) -> None:
    windowing = Windowing(frames=10, carried=3, lookahead=2)
    assert windowing.kept == 5
    heard = torch.randn(31, 5)

    def make(seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return list(sample_windows(net, DIFFUSION, DPMSolver(4), heard, windowing, None, generator))

    windows = make(0)
    # 8 of the first (nothing is carried yet), then 5 at a time; the last window has nothing to look ahead to
    assert [len(window) for window in windows] == [8, 5, 5, 5, 5, 3]
    assert torch.cat(windows).shape == (31, 9)
    torch.testing.assert_close(torch.cat(make(0)), torch.cat(windows))
    assert not torch.allclose(torch.cat(make(1)), torch.cat(windows), atol=1e-3)
    with pytest.raises(ValueError, match="keeps none"):
        Windowing(10, 6, 4)


def test_a_schedule_must_end_in_noise() -> None:
    assert motion_schedule().alpha_bar(399) < 1e-3
    with pytest.raises(TalkgenError, match="13 % of the signal's amplitude"):
        motion_schedule("linear")
    forced = motion_schedule("linear", force=True)
    assert forced.alpha_bar(399) == pytest.approx(0.0175, abs=5e-4)
    assert motion_schedule("linear", 1000).alpha_bar(999) < 1e-4
    with pytest.raises(TalkgenError, match="cosine or linear"):
        motion_schedule("sqrt")
