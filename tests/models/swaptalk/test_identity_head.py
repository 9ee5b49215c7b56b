from __future__ import annotations

import pytest
import torch

from talkgen.models.swaptalk.identity_head import LatentIdentityHead


def head() -> LatentIdentityHead:
    torch.manual_seed(0)
    return LatentIdentityHead(4, width=8, multipliers=(1, 2), blocks=1, cells=2, embedding=16, grid=(4, 4))


@pytest.mark.parametrize("size", [(4, 4), (6, 6), (5, 3)])
def test_directions_for_any_size_of_map(size: tuple[int, int]) -> None:
    directions = head()(torch.randn(3, 4, *size))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(3))
    assert directions.shape == (3, 16)


def test_gradient_reaches_every_cell_of_the_latent() -> None:
    latent = torch.randn(2, 4, 4, 4, requires_grad=True)
    head()(latent)[:, 0].sum().backward()
    assert (latent.grad.abs().sum(1) > 0).all()


def test_learns_a_recogniser_of_what_is_where() -> None:
    """The direction says which of two vectors stands at a place; a network without positions could not."""
    network = head()
    codes = torch.randn(2, 4)
    directions = torch.nn.functional.normalize(torch.randn(2, 16), dim=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for _ in range(100):
        chosen = torch.randint(2, (32, 4, 4))
        latent = codes[chosen].permute(0, 3, 1, 2)
        loss = 1 - (network(latent) * directions[chosen[:, 0, 3]]).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
