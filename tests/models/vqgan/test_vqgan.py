from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recipe
import torch
import torch.nn.functional as F

from talkgen.errors import FileError
from talkgen.models.vqgan.taming import load_taming
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan


def small(**options: object) -> VQGAN:
    torch.manual_seed(0)
    settings = {
        "channels": 16, "multipliers": (1, 1, 2), "blocks": 1, "latent_channels": 16, "codes": 64,
        "code_dim": 8, "kmeans_vectors": 0,
    } | options  # fmt: skip
    return build_vqgan(**settings)


def picture(b: int = 2, height: int = 32, width: int = 24) -> torch.Tensor:
    return torch.rand(b, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def published(reference: Path) -> dict[str, torch.Tensor]:
    keys = json.loads((reference / "taming_vqgan_f16_keys.json").read_text())
    return recipe.state_dict(keys, gain=0.8)


def test_published_layout_and_numbers(reference: Path) -> None:
    numbers = np.load(reference / "taming_vqgan_f16.npz")
    net = build_vqgan(halves=False, codebooks=1, mode="gradient").eval()
    weights = published(reference) | {"loss.discriminator.main.0.weight": torch.zeros(1)}
    report = load_taming(net, {"state_dict": weights, "global_step": 7})
    assert report.loaded == 343 and report.dropped == ("loss.discriminator.main.0.weight",)
    with torch.inference_mode():
        output = net(torch.from_numpy(numbers["x"]))
    np.testing.assert_array_equal(output.codes.flatten(), numbers["indices"])
    for got, name in (
        (output.continuous, "prequant"), (output.latent, "quant"), (output.reconstruction, "reconstruction"),
    ):  # fmt: skip
        expected = numbers[name]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_one_published_codebook_starts_both(reference: Path) -> None:
    weights = published(reference)
    net = build_vqgan()
    load_taming(net, weights)
    for quantizer in (net.quantize.upper, net.quantize.lower):
        torch.testing.assert_close(quantizer.embedding.weight, weights["quantize.embedding.weight"])
        torch.testing.assert_close(quantizer.embed_avg, quantizer.embedding.weight)
        assert quantizer.initialised
    del weights["encoder.conv_in.bias"]
    with pytest.raises(FileError, match=r"1 missing: encoder\.conv_in\.bias"):
        load_taming(net, weights)


def test_upper_codes_do_not_see_the_mouth() -> None:
    image = picture()
    changed = image.clone()
    changed[:, :, 22:30, 6:18] = -changed[:, :, 22:30, 6:18]
    apart, whole = small().eval(), small(halves=False).eval()
    before, after = apart.encode(image), apart.encode(changed)
    torch.testing.assert_close(before.continuous[:, :, :4], after.continuous[:, :, :4], rtol=0, atol=0)
    assert (before.codes[:, :4] == after.codes[:, :4]).all()
    assert (before.continuous[:, :, 4:] != after.continuous[:, :, 4:]).any()
    # The other way of encoding does see it, which is why there are halves.
    leak = whole.encode(image).continuous[:, :, :4] - whole.encode(changed).continuous[:, :, :4]
    assert leak.abs().max() > 1e-4


def test_halves_are_images_of_their_own() -> None:
    net, image = small().eval(), picture()
    latent = net.encode_continuous(image)
    for rows, half in ((slice(0, 4), image[:, :, :16]), (slice(4, 8), image[:, :, 16:])):
        alone = net.quant_conv(net.encoder(half))
        torch.testing.assert_close(latent[:, :, rows], alone)


def test_squares_of_pixels_as_channels() -> None:
    """Another factor of two without a level, the halves still apart, and no checkerboard to begin with."""
    flat, net, image = small().eval(), small(patch=2).eval(), picture()
    assert net.factor == 2 * flat.factor
    code = net.encode(image)
    assert code.codes.shape == (len(image), 32 // net.factor, image.shape[-1] // net.factor)
    assert (net.encode_continuous(image.roll(1, 3)) - code.continuous).abs().max() > 0
    decoded = net.decode(code.latent)
    assert decoded.shape == image.shape
    torch.testing.assert_close(decoded[:, :, ::2, ::2], decoded[:, :, 1::2, 1::2])


@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize("cosine", [False, True])
@torch.no_grad()
def test_codes_decode_to_the_reconstruction(codebooks: int, cosine: bool) -> None:
    net, image = small(codebooks=codebooks, cosine=cosine).eval(), picture()
    output = net(image)
    codes = net.encode_codes(image)
    assert codes.shape == (2, 8, 6) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < 64
    stored = codes.numpy().astype(np.uint16)
    torch.testing.assert_close(net.lookup(torch.from_numpy(stored)), output.latent, rtol=0, atol=0)
    decoded = net.decode_codes(torch.from_numpy(stored))
    torch.testing.assert_close(decoded, output.reconstruction, rtol=1e-3, atol=1e-4)
    assert output.reconstruction.shape == image.shape


def test_impossible_sizes_are_named() -> None:
    net = small()
    with pytest.raises(ValueError, match=r"36×24 .* multiple of 8, its width of 4"):
        net.encode(picture(height=36))
    with pytest.raises(ValueError, match="32×26"):
        net.encode(picture(width=26))
    small(halves=False).encode(picture(height=36))


def test_attention_is_named_by_level() -> None:
    keys = set(small(multipliers=(1, 2, 2), attention_levels=(0, 2)).state_dict())
    assert "encoder.down.0.attn.0.q.weight" in keys and "decoder.up.2.attn.1.q.weight" in keys
    assert not any(key.startswith(("encoder.down.1.attn", "decoder.up.1.attn")) for key in keys)


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        net = small(checkpointing=checkpointing).train()
        output = net(picture())
        (output.reconstruction.abs().mean() + output.codebook_loss).backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_channels_last_and_bfloat16() -> None:
    net, image = small().eval(), picture()
    expected = net(image).reconstruction
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(image).reconstruction, expected, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image)
    assert output.latent.dtype == output.codebook_loss.dtype == torch.float32
    assert output.reconstruction.dtype == torch.bfloat16


def blobs(n: int, generator: torch.Generator) -> torch.Tensor:
    """Smooth random colours with some detail."""
    coarse, fine = (torch.randn(n, 3, side, side, generator=generator) for side in (5, 8))
    return (F.interpolate(coarse, (32, 32), mode="bicubic") + 0.4 * F.interpolate(fine, (32, 32))).tanh()


def codes_used_after_training(mode: str) -> tuple[int, float]:
    """A toy run: codes of 256 that held-out pictures use, and the error of their reconstruction."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = small(
        multipliers=(1, 2, 2), attention_levels=(), latent_channels=32, codes=256, code_dim=32, codebooks=1,
        mode=mode, kmeans_vectors=1024,
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(100):
        image = blobs(8, generator)
        output = net(image)
        loss = F.l1_loss(output.reconstruction, image) + output.codebook_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    image = blobs(64, generator)
    with torch.no_grad():
        output = net(image)
    return len(output.codes.unique()), F.l1_loss(output.reconstruction, image).item()


@pytest.mark.slow
def test_default_quantiser_uses_far_more_codes_than_the_published_one() -> None:
    used, error = codes_used_after_training("ema")
    used_published, error_published = codes_used_after_training("gradient")
    assert used > 3 * used_published
    assert used > 100
    assert error < error_published
