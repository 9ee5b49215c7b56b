from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from talkgen.diffusion.schedule import NoiseSchedule, cosine_betas, linear_betas, linear_schedule


def test_linear_by_hand():
    schedule = linear_schedule()
    assert schedule.steps == 1000
    assert schedule.alpha_bar(-1) == 1
    assert schedule.alpha_bar(0) == pytest.approx(1 - 1e-4)
    assert schedule.alpha_bar(1) == pytest.approx((1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999))
    # of the published schedule
    assert schedule.alpha_bar(960) == pytest.approx(8.7e-5, rel=0.01)
    assert schedule.alpha_bar(999) == pytest.approx(4.0e-5, rel=0.02)
    assert math.exp(2 * schedule.log_snr(0)) == pytest.approx(0.9999 / 1e-4)
    assert schedule.log_snr(-1) == math.inf


def test_fewer_steps_end_as_noisy():
    few, many = (NoiseSchedule(linear_betas(steps)) for steps in (100, 1000))
    assert math.log(few.alpha_bar(99)) == pytest.approx(math.log(many.alpha_bar(999)), rel=0.15)


def test_cosine_is_half_gone_in_the_middle():
    schedule = NoiseSchedule(cosine_betas(1000))
    assert schedule.alpha_bar(499) == pytest.approx(0.49, abs=0.01)
    assert schedule.alpha_bar(999) < 1e-6


@pytest.mark.parametrize("betas", [[0.1], [0.1, 0.0], [0.1, 1.0], [[0.1, 0.2]]])
def test_no_schedule(betas):
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        NoiseSchedule(betas)


@pytest.mark.parametrize("prediction", ["noise", "velocity", "x0"])
def test_every_prediction_leads_back(prediction):
    schedule = linear_schedule()
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(4, 3, 5, 5, generator=generator) * 2 - 1
    noise = torch.randn(4, 3, 5, 5, generator=generator)
    t = torch.tensor([0, 100, 500, 800])
    noisy = schedule.add_noise(x0, noise, t)
    target = schedule.target(x0, noise, t, prediction)
    estimate = schedule.estimate(target, noisy, t, prediction)
    torch.testing.assert_close(estimate.x0, x0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(estimate.noise, noise, atol=1e-3, rtol=1e-3)


def test_clamped_estimate_is_consistent():
    schedule = linear_schedule()
    t = torch.tensor([300])
    noisy = torch.tensor([[3.0, 0.1]])
    estimate = schedule.estimate(torch.zeros(1, 2), noisy, t, "noise", clamp=True)
    assert estimate.x0[0, 0] == 1
    torch.testing.assert_close(schedule.add_noise(estimate.x0, estimate.noise, t), noisy)


def test_posterior_against_bayes():
    """q(x_{t-1} | x_t, x₀) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x₀), both Gaussian."""
    schedule = linear_schedule()
    t, x0, x_t = 400, 0.3, -0.8
    bar, before = schedule.alpha_bar(t), schedule.alpha_bar(t - 1)
    beta = 1 - bar / before
    # x_t = √(1−β) x_{t−1} + √β z; precisions add up
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (math.sqrt(1 - beta) * x_t / beta + math.sqrt(before) * x0 / (1 - before)) / precision
    index = torch.tensor([t])
    got = schedule.posterior_mean(torch.tensor([[x0]]), torch.tensor([[x_t]]), index)
    assert got.item() == pytest.approx(mean, rel=1e-4)
    smallest = schedule.log_variance(torch.zeros(1, 1), index).exp().item()
    assert smallest == pytest.approx(1 / precision, rel=1e-4)
    assert schedule.log_variance(torch.ones(1, 1), index).exp().item() == pytest.approx(beta, rel=1e-4)
    middle = schedule.log_variance(torch.full((1, 1), 0.5), index).exp().item()
    assert middle == pytest.approx(math.sqrt(beta / precision), rel=1e-4)


def test_min_snr_weights_the_same_error_the_same():
    """An error of x₀ of d is one of ε of d α/σ, and one of v of d/σ: the weighted losses must agree."""
    schedule = linear_schedule()
    t = torch.tensor([5, 200, 500, 900])
    by_kind = {kind: schedule.min_snr_weight(t, kind) for kind in ("noise", "velocity", "x0")}
    alpha, sigma = schedule.alpha[t], schedule.sigma[t]
    torch.testing.assert_close(by_kind["noise"] * (alpha / sigma) ** 2, by_kind["x0"])
    torch.testing.assert_close(by_kind["velocity"] / sigma**2, by_kind["x0"])
    assert by_kind["x0"][0] == 5
    assert by_kind["noise"][3] == pytest.approx(1.0)


def test_numbers_move_but_are_not_saved():
    schedule = linear_schedule()
    assert schedule.state_dict() == {}
    assert {buffer.dtype for buffer in schedule.buffers()} == {torch.float32}
    assert schedule.half().sigma.dtype == torch.float32
    assert schedule.to("meta").alpha.device.type == "meta"
    np.testing.assert_allclose(linear_betas()[[0, -1]], [1e-4, 2e-2])
