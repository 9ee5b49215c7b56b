from __future__ import annotations

import math

import pytest
import torch

from talkgen.losses.face_swap import code_cross_entropy, identity_distance, latent_distance, mean_where
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.vqgan.quantizer import HalvesQuantizer, VectorQuantizer


def test_mean_of_those_it_concerns() -> None:
    values = torch.tensor([1.0, 2.0, float("nan"), 6.0], requires_grad=True)
    mean = mean_where(values, torch.tensor([True, False, False, True]))
    assert mean == 3.5
    mean.backward()
    assert values.grad.tolist() == [0.5, 0.0, 0.0, 0.5]
    assert mean_where(values, torch.zeros(4, dtype=torch.bool)) == 0


def test_distance_is_measured_in_standard_deviations() -> None:
    label = torch.zeros(2, 1, 2, 2)
    swapped = torch.tensor([0.5, 3.0])[:, None, None, None].expand(2, 1, 2, 2)
    scale = LatentScale(1)
    # smooth L1 with β = 1: x²/2 below 1, |x| − 1/2 above
    torch.testing.assert_close(latent_distance(swapped, label, scale), torch.tensor([0.125, 2.5]))
    scale.mean.fill_(7.0)
    scale.deviation.fill_(0.5)  # the same latents are twice as far apart now
    torch.testing.assert_close(latent_distance(swapped, label, scale), torch.tensor([0.5, 5.5]))


def test_identity_distance_moves_the_generated_only() -> None:
    generated = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    wanted = torch.tensor([[1.0, 0.0], [0.6, 0.8]], requires_grad=True)
    distance = identity_distance(generated, wanted)
    torch.testing.assert_close(distance, torch.tensor([0.0, 0.2]))
    distance.sum().backward()
    assert generated.grad.any() and wanted.grad is None


def books(codes: torch.Tensor, halves: bool) -> VectorQuantizer | HalvesQuantizer:
    def one(table: torch.Tensor) -> VectorQuantizer:
        book = VectorQuantizer(len(table), table.shape[1])
        book.set_codes(table)
        return book

    return HalvesQuantizer(one(codes), one(-codes.flip(0))) if halves else one(codes)


@pytest.mark.parametrize("halves", [False, True])
def test_code_cross_entropy_by_hand(halves: bool) -> None:
    """Two codes at 0 and 2 on a line: two draws are 2 apart (mean square), the squares differ by 4."""
    quantizer = books(torch.tensor([[0.0], [2.0]]), halves)
    codes = torch.zeros(1, 2, 1, dtype=torch.long)
    on_it = quantizer.lookup(codes)
    far = math.log(1 + math.exp(-4 / (0.5 * 2)))
    torch.testing.assert_close(
        code_cross_entropy(on_it, codes, quantizer, temperature=0.5), torch.tensor([far])
    )
    middle = quantizer.lookup(codes) * 0 + torch.tensor([1.0, -1.0 if halves else 1.0])[None, None, :, None]
    torch.testing.assert_close(
        code_cross_entropy(middle, codes, quantizer, temperature=0.5), torch.tensor([math.log(2)])
    )


def test_code_cross_entropy_pulls_towards_the_right_code() -> None:
    torch.manual_seed(0)
    quantizer = books(torch.randn(8, 4), halves=True)
    codes = torch.randint(8, (3, 4, 4))
    latent = torch.zeros(3, 4, 4, 4, requires_grad=True)
    optimizer = torch.optim.Adam([latent], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        code_cross_entropy(latent, codes, quantizer).sum().backward()
        optimizer.step()
    assert quantizer.eval()(latent).codes.equal(codes)
