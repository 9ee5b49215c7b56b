"""Noise of a video: what is shared, what turns into what, and that batches do not matter."""

from __future__ import annotations

import pytest
import torch

from talkgen.inference.noise_maps import NoiseMaps


def test_one_map_is_the_published_one() -> None:
    torch.manual_seed(7)
    assert torch.equal(NoiseMaps()([3, 4], 16), torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize("kind", ["correlated", "independent"])
def test_maps_do_not_depend_on_the_batch(kind: str) -> None:
    noise = NoiseMaps(kind, period=4)  # type: ignore[arg-type]
    whole = noise(range(10), 32)
    assert torch.equal(torch.cat([noise([0, 1, 2], 32), noise(range(3, 10), 32)]), whole)
    assert abs(float(whole.std()) - 1) < 0.03
    assert all(abs(float(one.std()) - 1) < 0.08 for one in whole)


def test_correlated_maps_turn_into_one_another() -> None:
    maps = NoiseMaps("correlated", period=5)(range(11), 64).flatten(1)
    r = torch.corrcoef(maps)
    expected = torch.cos(torch.arange(6) / 5 * torch.pi / 2)
    torch.testing.assert_close(r[0, :6], expected, atol=0.04, rtol=0)
    assert abs(float(r[0, 10])) < 0.04
    independent = torch.corrcoef(NoiseMaps("independent")(range(4), 64).flatten(1))
    assert (independent - torch.eye(4)).abs().max() < 0.04


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="noise is shared, correlated, independent"):
        NoiseMaps("pink")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="period"):
        NoiseMaps(period=0)
