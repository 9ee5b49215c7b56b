from __future__ import annotations

import pytest
import torch

from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.schedule import linear_schedule
from talkgen.losses.denoising import DenoisingLoss, TermTimesteps, active_mean, squared_error
from talkgen.losses.weights import Diff2LipWeights


def batch(t: list[int], channels: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(len(t), channels, 4, 4, generator=generator) * 2 - 1
    noise = torch.randn(x0.shape, generator=generator)
    steps = torch.tensor(t)
    return {"x0": x0, "noise": noise, "noisy": linear_schedule().add_noise(x0, noise, steps), "t": steps}


def test_terms_are_means_of_the_errors():
    diffusion = GaussianDiffusion(linear_schedule())
    given = batch([3, 700])
    output = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    errors = diffusion.errors(output, **given)
    terms = DenoisingLoss(diffusion)(output, **given)
    torch.testing.assert_close(terms.noise, errors.simple.mean())
    torch.testing.assert_close(terms.variational, errors.variational.mean())
    torch.testing.assert_close(terms.x0, errors.x0.clamp(-1, 1))
    assert errors.x0.abs().max() > 2


def test_min_snr_weighs_quiet_timesteps_down():
    """At t = 3 the signal is a thousand times the noise; γ / SNR is what is left of the error."""
    diffusion = GaussianDiffusion(linear_schedule(), learned_range=False)
    given = batch([3])
    output = torch.zeros(1, 3, 4, 4)
    plain = DenoisingLoss(diffusion)(output, **given).noise
    weighted = DenoisingLoss(diffusion, min_snr=5.0)(output, **given).noise
    bar = diffusion.schedule.alpha_bar(3)
    assert (weighted / plain).item() == pytest.approx(5 * (1 - bar) / bar, rel=1e-3)


def test_gradient_of_the_picture_is_bounded_at_noisy_timesteps_alone():
    diffusion = GaussianDiffusion(linear_schedule(), learned_range=False)
    given = batch([50, 950])
    grown = {}
    for bounded in (True, False):
        output = torch.zeros(2, 3, 4, 4, requires_grad=True)
        DenoisingLoss(diffusion, bounded=bounded)(output, **given).x0.sum().backward()
        grown[bounded] = output.grad.abs().amax((1, 2, 3))
    ratio = diffusion.schedule.sigma[given["t"]] / diffusion.schedule.alpha[given["t"]]
    torch.testing.assert_close(grown[False], ratio)  # ∂x̂₀/∂ε̂ = −σ/α
    torch.testing.assert_close(grown[True], ratio.clamp_max(1))
    assert grown[False][1] > 50


def test_squared_error_by_hand():
    generated, truth = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
    assert squared_error(generated, truth).item() == 5
    assert squared_error(generated, truth, torch.tensor([[[[1.0, 0.0]]]])).item() == 0.5


def test_terms_act_where_they_are_told():
    timesteps = TermTimesteps(sync=(100, 200))
    t = torch.tensor([99, 100, 199, 200])
    assert timesteps.active("sync", t).tolist() == [False, True, True, False]
    assert timesteps.active("l2", t).all()
    values = torch.tensor([1.0, 2.0, 4.0, float("inf")])
    assert active_mean(values, timesteps.active("sync", t)).item() == 1.5  # (2 + 4) / 4
    for wrong in ((5, 5), (-1, 3), (1, 2, 3)):
        with pytest.raises(ValueError, match="perceptual"):
            TermTimesteps(perceptual=wrong)


def test_weights_of_the_authors():
    weights = Diff2LipWeights()
    assert (weights.l2, weights.perceptual, weights.sync, weights.adversarial) == (1, 0.25, 0.1, 0.5)
    with pytest.raises(ValueError, match=r"Diff2LipWeights\.sync"):
        Diff2LipWeights(sync=-1)
