"""Samplers against what they should give: exactly solvable distributions, and another implementation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from mixture import GAUSSIAN, MIXTURE, SCHEDULE, Mixture
from torch import Tensor

from talkgen.diffusion.ancestral import Ancestral
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.sampler import Denoise, spaced_timesteps, step_pairs
from talkgen.diffusion.schedule import Estimate, NoiseSchedule
from talkgen.diffusion.unipc import UniPC


def noise(count: int = 2000) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64).clamp(-3, 3)


def error(sampler, data: Mixture) -> float:
    """Mean distance of samples from where the exact flow takes the same noise."""
    start = sampler.timesteps(SCHEDULE)[0]
    got = sampler.sample(SCHEDULE, data.denoise, noise())
    return float((got - data.exact(noise(), start)).abs().mean())


def test_exact_flow_of_a_gaussian_is_linear():
    """x₀ = m + s (x_T − α_T m) / √(α_T² s² + σ_T²), by hand."""
    alpha = math.sqrt(SCHEDULE.alpha_bar(999))
    expected = 0.3 + 0.5 * (noise() - alpha * 0.3) / math.sqrt(alpha**2 * 0.25 + 1 - alpha**2)
    torch.testing.assert_close(GAUSSIAN.exact(noise(), 999), expected)


@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
@pytest.mark.parametrize(
    ("sampler", "order", "bound"),
    [
        (DDIM(spacing="log_snr"), 1, 0.05),
        (DPMSolver(), 2, 0.006),
        (UniPC(order=2), 2, 0.004),
        (UniPC(order=3), 2, 0.003),
    ],
    ids=str,
)
def test_converges_to_the_exact_answer(sampler, order, bound, data):
    """Twice the steps divide the error by 2 at order 1, by 4 at order 2."""
    coarse, fine, finer = (error(replace(sampler, steps=steps), data) for steps in (20, 40, 80))
    assert coarse < bound
    assert coarse / fine > 0.85 * 2**order
    assert fine < bound / (0.85 * 2**order)
    assert finer < fine  # by how much is up to the integers that timesteps are rounded to


@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
def test_second_order_is_worth_it_at_eight_to_twelve_steps(data):
    for steps in (8, 10, 12):
        first = error(DDIM(steps), data)
        assert error(DPMSolver(steps), data) < 0.5 * first
        assert error(UniPC(steps), data) < 0.5 * first


def with_variance(denoise: Denoise, data: Mixture, grid: tuple[int, ...]) -> Denoise:
    """Add the variance that a perfectly trained network would learn, for one Gaussian."""
    steps = dict(step_pairs(grid))
    deviation = float(data.deviations[0])

    def denoise_with_variance(x: Tensor, t: int) -> Estimate:
        now, later = SCHEDULE.alpha_bar(t), SCHEDULE.alpha_bar(steps[t])
        beta = 1 - now / later
        # Var[x_s | x_t] of Gaussian data: that of x_s, less what x_t tells of it.
        spread = later * deviation**2 + 1 - later
        true = spread - (1 - beta) * spread**2 / (now * deviation**2 + 1 - now)
        if steps[t] < 0:
            place = 0.0
        else:
            smallest = beta * (1 - later) / (1 - now)
            place = math.log(true / smallest) / math.log(beta / smallest)
            assert -1e-9 <= place <= 1 + 1e-9
        return replace(denoise(x, t), variance=torch.full_like(x, place))

    return denoise_with_variance


@pytest.mark.parametrize("steps", [4, 20, 250])
def test_ancestral_is_exact_with_the_best_variance(steps):
    """Every reverse step of Gaussian data is Gaussian, so mean and deviation are exact at any length."""
    sampler = Ancestral(steps)
    grid = sampler.timesteps(SCHEDULE)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20000, generator=generator, dtype=torch.float64)
    states: list[Tensor] = []

    def record(x: Tensor, t: int) -> Estimate:
        states.append(x)
        return GAUSSIAN.denoise(x, t)

    x0 = sampler.sample(SCHEDULE, with_variance(record, GAUSSIAN, grid), x, generator)
    for t, state in list(zip(grid, states, strict=True))[1:]:
        alpha_bar = SCHEDULE.alpha_bar(t)
        # What begins as N(0, 1) is not quite x_T; steps forget it at once at these noise levels.
        assert state.mean().item() == pytest.approx(math.sqrt(alpha_bar) * 0.3, abs=0.03)
        assert state.std().item() == pytest.approx(math.sqrt(alpha_bar * 0.25 + 1 - alpha_bar), rel=0.02)
    # The last step gives the mean, without the deviation left at the last timestep (t = 0: next to nothing).
    assert x0.mean().item() == pytest.approx(0.3, abs=0.02)
    assert x0.std().item() == pytest.approx(0.5, rel=0.02)


def test_ancestral_without_learned_variance_lies_between_the_bounds():
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = {}
    for variance in ("small", "large"):
        generator = torch.Generator().manual_seed(1)
        sampler = Ancestral(20, variance)
        spread[variance] = float(sampler.sample(SCHEDULE, GAUSSIAN.denoise, x, generator).std())
    assert spread["small"] < 0.97 * 0.5 < 0.5 < spread["large"]


def test_ddim_with_eta_one_is_ancestral_with_the_small_variance():
    x = noise()
    a = DDIM(20, eta=1.0).sample(SCHEDULE, MIXTURE.denoise, x, torch.Generator().manual_seed(3))
    b = Ancestral(20, "small").sample(SCHEDULE, MIXTURE.denoise, x, torch.Generator().manual_seed(3))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("ddim25", DDIM(25)),
        ("dpm10", DPMSolver(10, "trailing")),
        ("unipc10", UniPC(10, 2, "trailing")),
        ("unipc10_order3", UniPC(10, 3, "trailing")),
    ],
)
def test_another_implementation_gives_the_same(name, sampler, reference):
    """Numbers of the library diffusers, on the same mixture from the same noise."""
    numbers = np.load(reference / "diffusers_samplers.npz")
    got = sampler.sample(SCHEDULE, MIXTURE.denoise, torch.from_numpy(numbers["noise"]).double())
    np.testing.assert_allclose(got, numbers[name], atol=5e-6)


def test_spacings():
    assert spaced_timesteps(SCHEDULE, 25, "leading") == tuple(range(960, -1, -40))
    assert spaced_timesteps(SCHEDULE, 30, "leading") == tuple(range(986, -1, -34))
    assert spaced_timesteps(SCHEDULE, 37, "leading") == tuple(range(36 * 27, -1, -27))
    assert spaced_timesteps(SCHEDULE, 4, "trailing") == (999, 749, 499, 249)
    assert spaced_timesteps(SCHEDULE, 1, "log_snr") == (999,)
    assert spaced_timesteps(SCHEDULE, 1000, "log_snr") == tuple(range(999, -1, -1))
    for steps in (2, 8, 12, 25, 300):
        grid = spaced_timesteps(SCHEDULE, steps, "log_snr")
        assert len(grid) == steps
        assert (grid[0], grid[-1]) == (999, 0)
        assert all(a > b for a, b in step_pairs(grid))
    ten = [SCHEDULE.log_snr(t) for t in spaced_timesteps(SCHEDULE, 10, "log_snr")]
    assert np.diff(ten).max() < 1.5 * np.diff(ten).mean()
    with pytest.raises(ValueError, match="1001 steps"):
        spaced_timesteps(SCHEDULE, 1001, "leading")


@pytest.mark.parametrize("sampler", [DDIM(5), Ancestral(5), DPMSolver(5), UniPC(5)], ids=str)
def test_one_call_a_timestep_in_the_shape_and_precision_of_the_noise(sampler):
    calls = []

    def denoise(x: Tensor, t: int) -> Estimate:
        assert x.dtype == torch.float32
        calls.append(t)
        return Estimate(torch.zeros_like(x), x)

    x = torch.randn(2, 3, 4, 4)
    result = sampler.sample(SCHEDULE, denoise, x, torch.Generator().manual_seed(0))
    assert tuple(calls) == sampler.timesteps(SCHEDULE)
    assert result.shape == x.shape
    assert result.dtype == torch.float32
    assert (result == 0).all()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="order"):
        UniPC(order=4)
    with pytest.raises(ValueError, match="spacing"):
        DDIM(spacing="uniform").timesteps(NoiseSchedule([0.1, 0.2, 0.3, 0.4] * 10))
