from __future__ import annotations

import math

import pytest
import torch

from talkgen.diffusion.gaussian import (
    GaussianDiffusion,
    bound_gradient,
    clamp_through,
    discretised_log_likelihood,
    gaussian_kl,
    stratified_timesteps,
)
from talkgen.diffusion.schedule import linear_schedule


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(prediction: str = "noise", learned_range: bool = True) -> GaussianDiffusion:
    return GaussianDiffusion(linear_schedule(), prediction, learned_range)


@pytest.mark.parametrize("prediction", ["noise", "velocity", "x0"])
def test_a_perfect_prediction_has_no_error(prediction):
    diffusion = make(prediction)
    x0, noise, t = draw(3, 2, 4, 4).clamp(-1, 1), draw(3, 2, 4, 4, seed=1), torch.tensor([1, 500, 900])
    noisy = diffusion.schedule.add_noise(x0, noise, t)
    target = diffusion.schedule.target(x0, noise, t, prediction)
    smallest = torch.cat([target, -torch.ones_like(target)], 1)  # the posterior's own variance
    errors = diffusion.errors(smallest, x0, noise, noisy, t)
    assert errors.simple.abs().max() == 0
    torch.testing.assert_close(errors.variational, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(errors.x0, x0, atol=1e-3, rtol=0)
    larger = torch.cat([target, torch.ones_like(target)], 1)  # at late timesteps the bounds all but meet
    assert diffusion.errors(larger, x0, noise, noisy, t).variational[0] > 0.1


def test_masked_error_by_hand():
    diffusion = make(learned_range=False)
    x0 = torch.zeros(2, 1, 2, 2)
    noise = torch.ones(2, 1, 2, 2)
    output = torch.tensor([[[[9.0, 9.0], [3.0, 1.0]]], [[[9.0, 9.0], [1.0, 1.0]]]])
    mask = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    t = torch.tensor([10, 10])
    errors = diffusion.errors(output, x0, noise, diffusion.schedule.add_noise(x0, noise, t), t, mask)
    assert errors.simple.tolist() == [1.0, 0.0]  # (2² + 0²) / 4 elements, and nothing
    assert errors.variational is None


def test_outside_the_mask_nothing_is_learned():
    diffusion = make()
    x0, noise, t = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), torch.tensor([0, 700])
    output = draw(2, 6, 4, 4, seed=2).requires_grad_()
    mask = torch.zeros(1, 1, 4, 4)
    mask[:, :, 2:] = 1
    noisy = diffusion.schedule.add_noise(x0, noise, t)
    errors = diffusion.errors(output, x0, noise, noisy, t, mask)
    (errors.simple + errors.variational).sum().backward()
    assert (output.grad[:, :, :2] == 0).all()
    assert (output.grad[:, :, 2:] != 0).all()


def test_the_bound_teaches_the_variance_alone():
    diffusion = make()
    x0, noise, t = draw(2, 3, 4, 4).clamp(-1, 1), draw(2, 3, 4, 4, seed=1), torch.tensor([0, 300])
    output = draw(2, 6, 4, 4, seed=2).requires_grad_()
    noisy = diffusion.schedule.add_noise(x0, noise, t)
    diffusion.errors(output, x0, noise, noisy, t).variational.sum().backward()
    assert (output.grad[:, :3] == 0).all()
    assert (output.grad[:, 3:] != 0).any(dim=1).any()


def test_bound_at_one_step_by_hand():
    """One number, t = 400, prediction 0, variance in the middle of its range."""
    diffusion = make()
    schedule, t = diffusion.schedule, torch.tensor([400])
    x0, noise = torch.tensor([[[[0.4]]]]), torch.tensor([[[[-1.1]]]])
    noisy = schedule.add_noise(x0, noise, t)
    got = diffusion.errors(torch.zeros(1, 2, 1, 1), x0, noise, noisy, t).variational.item()
    bar, before = schedule.alpha_bar(400), schedule.alpha_bar(399)
    beta = 1 - bar / before
    true_variance = beta * (1 - before) / (1 - bar)
    variance = math.sqrt(beta * true_variance)
    weight = beta * math.sqrt(before) / (1 - bar)
    gap = weight * (noisy.item() / math.sqrt(bar) - 0.4)  # means differ by their x₀ alone
    expected = 0.5 * (math.log(variance / true_variance) - 1 + (true_variance + gap**2) / variance)
    assert got == pytest.approx(expected / math.log(2), rel=1e-3)


def test_kl_against_torch():
    m1, s1, m2, s2 = (draw(50, seed=seed) for seed in range(4))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(m1, (0.5 * s1).exp()), torch.distributions.Normal(m2, (0.5 * s2).exp())
    )
    torch.testing.assert_close(gaussian_kl(m1, s1, m2, s2), expected)


@pytest.mark.parametrize(("mean", "deviation"), [(0.2, 0.3), (-0.9, 0.02), (1.4, 0.5)])
def test_likelihoods_of_all_levels_add_up_to_one(mean, deviation):
    levels = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1
    logs = discretised_log_likelihood(levels, torch.tensor(mean).double(), torch.tensor(deviation).log())
    assert logs.exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_gradient_is_bounded_and_the_value_is_not():
    x = draw(2, 3, 2, 2).requires_grad_()
    bounded = bound_gradient(x, torch.tensor([0.25, 1.0]))
    assert torch.equal(bounded, x)
    bounded.sum().backward()
    assert x.grad[0].unique().tolist() == [0.25]
    assert x.grad[1].unique().tolist() == [1.0]


def test_clamp_lets_the_gradient_through():
    x = torch.tensor([-7.0, 0.25, 3.0], requires_grad=True)
    clamped = clamp_through(x)
    assert clamped.tolist() == [-1, 0.25, 1]
    (clamped - 0.5).square().sum().backward()
    assert x.grad.tolist() == [-3, -0.5, 1]  # towards the range, and no louder than its width


def test_timesteps_cover_the_range_in_every_batch_and_are_uniform():
    generator = torch.Generator().manual_seed(0)
    batches = torch.stack([stratified_timesteps(8, 1000, generator) for _ in range(4000)])
    assert ((batches.sort(1).values // 125) == torch.arange(8)).float().mean() > 0.95
    assert batches.min() >= 0
    assert batches.max() == 999
    first = batches[:, 0].double()  # one place in the batch sees every timestep alike
    assert first.mean().item() == pytest.approx(499.5, abs=15)
    assert first.std().item() == pytest.approx(1000 / math.sqrt(12), rel=0.03)


def test_noisier_timesteps_are_drawn_oftener():
    """t = T u^(1/γ): the share below T/2 is (1/2)^γ; stratified, so it is exact but for rounding."""
    t = stratified_timesteps(4000, 1000, torch.Generator().manual_seed(0), noisier=2.0)
    assert float((t < 500).float().mean()) == pytest.approx(0.25, abs=0.002)
    assert int(t.min()) >= 0 and int(t.max()) <= 999
