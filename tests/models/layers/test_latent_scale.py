from __future__ import annotations

import pytest
import torch

from talkgen.models.layers.latent_scale import LatentScale, codebook_vectors
from talkgen.models.vqgan.vqgan import build_vqgan


def test_identity_until_set() -> None:
    latent = torch.randn(2, 3, 4, 4)
    scale = LatentScale(3)
    assert scale.normalise(latent).equal(latent)
    assert scale.restore(latent).equal(latent)


def test_mean_0_and_variance_1_and_back_with_any_leading_dimensions() -> None:
    vectors = torch.randn(500, 3) * torch.tensor([1e-3, 1.0, 50.0]) + torch.tensor([5.0, 0.0, -1.0])
    scale = LatentScale(3)
    scale.set_from(vectors)
    latent = vectors.T.reshape(1, 3, 25, 20).unflatten(2, (5, 5)).permute(0, 2, 1, 3, 4)  # b t d h w
    normal = scale.normalise(latent)
    torch.testing.assert_close(normal.mean((0, 1, 3, 4)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(normal.std((0, 1, 3, 4), correction=0), torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(scale.restore(normal), latent)


def test_constant_channel_stays_finite() -> None:
    scale = LatentScale(2)
    scale.set_from(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    assert scale.deviation.tolist() == [1.0, 1.0]
    assert scale.mean.tolist() == [1.0, 1.0]


def test_statistics_travel_with_the_weights() -> None:
    scale = LatentScale(2)
    scale.set_from(torch.randn(10, 2))
    other = LatentScale(2)
    other.load_state_dict(scale.state_dict())
    assert other.deviation.equal(scale.deviation) and other.mean.equal(scale.mean)


def test_wrong_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(10, 3\)"):
        LatentScale(2).set_from(torch.randn(10, 3))


@pytest.mark.parametrize("codebooks", [1, 2])
def test_codebook_vectors_are_the_codes(codebooks: int) -> None:
    vqgan = build_vqgan(8, (1, 2), 1, latent_channels=8, codes=16, code_dim=4, codebooks=codebooks)
    vectors = codebook_vectors(vqgan)
    books = [vqgan.quantize] if codebooks == 1 else [vqgan.quantize.upper, vqgan.quantize.lower]
    expected = torch.cat([book.embedding.weight for book in books])
    assert vectors.shape == (32, 4)
    assert {tuple(v) for v in vectors.tolist()} == {tuple(v) for v in expected.tolist()}
