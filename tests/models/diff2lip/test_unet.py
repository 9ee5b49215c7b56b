"""Diff2Lip's network: the published layout and numbers, and what it promises about speed and memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
import recipe
import torch
from torch import nn

from talkgen.checkpoints import load_published
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.schedule import linear_schedule
from talkgen.errors import FileError
from talkgen.models.diff2lip.blocks import ResidualBlock
from talkgen.models.diff2lip.inpainting import FeatureCache, denoiser, inpaint, lower_mask
from talkgen.models.diff2lip.unet import DeepFeatures, Diff2LipUNet


@pytest.fixture(scope="module")
def published(reference):
    """The network at its published size with weights of the recipe, and the published numbers."""
    keys = json.loads((reference / "diff2lip_unet_keys.json").read_text())
    unet = Diff2LipUNet().eval()
    report = load_published(unet, recipe.state_dict(keys, gain=0.7), layout="diff2lip")
    assert report.loaded == len(keys) == 632
    numbers = {
        key: torch.from_numpy(value) for key, value in np.load(reference / "diff2lip_unet.npz").items()
    }
    zeros = torch.zeros(3, 64, 128)
    target = torch.cat([numbers["upper"], zeros], 1)[None]
    noise = torch.cat([zeros, numbers["noise_lower"]], 1)[None]
    return unet, numbers, target, noise


def test_published_numbers(published):
    unet, numbers, target, noise = published
    assert sum(p.numel() for p in unet.parameters()) == 101_670_630
    mask = lower_mask(128)
    noisy = torch.cat([torch.full((3, 64, 128), 7.0), numbers["x_t_lower"]], 1)[None]  # 7 must not be seen
    with torch.no_grad():
        output = unet(
            noisy, numbers["t"][None], target + noise * mask, mask, numbers["reference"][None],
            numbers["mel"][None, None],
        )  # fmt: skip
    assert output.shape == (1, 6, 128, 128)
    expected = numbers["unet_out"]
    torch.testing.assert_close(
        output[0, :, ::4, ::4], expected, rtol=0, atol=1e-4 * float(expected.abs().max())
    )


@pytest.mark.slow
def test_published_sampling(published):
    """25 steps of DDIM from the noise that also hides the target."""
    unet, numbers, target, noise = published
    diffusion = GaussianDiffusion(linear_schedule())
    generated = inpaint(
        unet, diffusion, DDIM(25), target, numbers["reference"][None], numbers["mel"][None, None],
        lower_mask(128), noise,
    )  # fmt: skip
    assert torch.equal(generated[0, :, :64], numbers["upper"])
    expected = numbers["ddim25_lower"]
    difference = (generated[0, :, 64::4, ::4] - expected).abs()
    assert difference.mean() < 1e-3 * expected.abs().mean()


def test_a_missing_tensor_is_named(reference):
    keys = json.loads((reference / "diff2lip_unet_keys.json").read_text())
    weights = {key: torch.zeros(shape) for key, shape, _ in keys}
    del weights["middle_block.1.qkv.bias"]
    with pytest.raises(FileError, match=r"1 missing: middle_block\.1\.qkv\.bias"):
        load_published(Diff2LipUNet(), weights, layout="diff2lip")


def tiny(**options) -> Diff2LipUNet:
    """16 pixels, 16 channels; every weight drawn, so that nothing is hidden by layers that begin at zero."""
    settings = {
        "image_size": 16, "channels": 16, "multipliers": (1, 2), "blocks": 1,
        "attention_resolutions": (8,), "head_channels": 8, "audio_channels": 8,
    }  # fmt: skip
    return recipe.fill(Diff2LipUNet(**settings | options), gain=0.7)


def inputs(batch: int = 2, size: int = 16, references: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "noisy": draw(batch, 3, size, size),
        "timestep": torch.tensor([900, 3] * batch)[:batch],
        "masked": draw(batch, 3, size, size),
        "mask": lower_mask(size),
        "reference": draw(batch, 3 * references, size, size),
        "mel": draw(batch, 1, 80, 16),
    }


@pytest.mark.parametrize("conditioning", ["additive", "scale_shift"])
@pytest.mark.parametrize("learned_range", [True, False])
def test_every_input_is_heard(conditioning, learned_range):
    unet = tiny(conditioning=conditioning, learned_range=learned_range, references=2)
    given = inputs(references=2)
    with torch.no_grad():
        output = unet(**given)
        assert output.shape == (2, 6 if learned_range else 3, 16, 16)
        for name in ("noisy", "timestep", "masked", "reference", "mel"):
            other = unet(**given | {name: given[name].flip(0)})
            assert (other - output).abs().max() > 1e-3, name


def test_noise_outside_the_mask_is_not_seen():
    unet, given = tiny(), inputs()
    noisy = given["noisy"].clone()
    noisy[:, :, :8] = 100.0
    with torch.no_grad():
        assert torch.equal(unet(**given), unet(**given | {"noisy": noisy}))


def test_embeddings_are_computed_once_and_give_the_same():
    unet, given = tiny(), inputs()
    diffusion = GaussianDiffusion(linear_schedule())
    calls = []
    unet.audio_encoder.register_forward_hook(lambda *_: calls.append("audio"))
    timesteps = (900, 500, 3)
    with torch.no_grad():
        denoise = denoiser(
            unet, diffusion, timesteps, given["masked"], given["mask"], given["reference"], given["mel"],
            clamp=False,
        )  # fmt: skip
        for timestep in timesteps:
            got = denoise(given["noisy"], timestep)
            t = torch.tensor([timestep] * 2)
            expected = diffusion.estimate(unet(**given | {"timestep": t}), given["noisy"], t)
            torch.testing.assert_close(got.x0, expected.x0)
            torch.testing.assert_close(got.variance, expected.variance)
    assert len(calls) == 1 + len(timesteps)  # ours once; the other three are the expected ones


@pytest.mark.parametrize("channels", [8, 16, 32])
def test_narrow_blocks_keep_what_is_added(channels):
    """With a group a channel, the norm would take a constant away that time and audio add."""
    block = recipe.fill(ResidualBlock(channels, channels, 8))
    x = torch.randn(1, channels, 4, 4)
    with torch.no_grad():
        first, second = (block(x, torch.full((1, 8), value)) for value in (-2.0, 2.0))
    assert (first - second).abs().max() > 0.1


def test_gradient_checkpointing_gives_the_same_gradients_for_less_memory():
    def run(switch: bool) -> tuple[list[torch.Tensor], int]:
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel() if tensor.data_ptr() not in weights else 0
            return tensor

        unet = tiny(image_size=32, attention_resolutions=(), gradient_checkpointing=switch).train()
        weights = {p.data_ptr() for p in unet.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = unet(**inputs(size=32)).square().mean()
        loss.backward()
        return [p.grad for p in unet.parameters()], kept

    (plain, memory), (again, less) = run(False), run(True)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)
    assert less < 0.5 * memory


def test_channels_last_reaches_every_convolution():
    unet, given = tiny().to(memory_format=torch.channels_last), inputs()
    seen = []

    def look(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[0].is_contiguous(memory_format=torch.channels_last))

    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith("audio"):
            module.register_forward_pre_hook(look)
    given = {
        key: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for key, x in given.items()
    }
    with torch.no_grad():
        output = unet(**given)
        torch.testing.assert_close(output, tiny()(**inputs()))
    assert len(seen) > 10
    assert all(seen)


def test_compiles_without_a_break():
    unet, given = tiny(), inputs()
    compiled = torch.compile(unet, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**given), unet(**given))


def test_half_precision_under_autocast():
    unet, given = tiny(), inputs()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = unet(**given)
    with torch.no_grad():
        expected = unet(**given)
    assert (output.float() - expected).norm() < 0.05 * expected.norm()


def test_half_precision_weights_take_pictures_as_they_are():
    unet, given = tiny(), inputs()
    with torch.no_grad():
        expected = unet(**given)
        output = unet.bfloat16()(**given)
    assert output.dtype == torch.bfloat16
    assert (output.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(("size", "multipliers"), [(64, (1, 2, 3, 4)), (256, (1, 1, 2, 3, 4, 4))])
def test_other_sizes_follow_guided_diffusion(size, multipliers):
    with torch.device("meta"):
        unet = Diff2LipUNet(image_size=size)
    widths = [m * 128 for m in multipliers]
    assert unet.input_blocks[-1][0].out_layers[3].out_channels == widths[-1]
    assert len(unet.output_blocks) == 3 * len(widths)
    # three sides attend on the way down, twice each, three times each on the way up, and once in the middle
    attending = [m for m in unet.modules() if type(m).__name__ == "AttentionBlock"]
    assert len(attending) == 3 * 2 + 3 * 3 + 1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multipliers"):
        Diff2LipUNet(image_size=96)
    with pytest.raises(ValueError, match="halved"):
        tiny(image_size=18, multipliers=(1, 2, 2))


def small(**settings):
    """A tiny network in which nothing begins at zero."""
    torch.manual_seed(0)
    unet = Diff2LipUNet(16, 8, (1, 2), 1, (8,), 8, audio_channels=8, **settings).eval()
    for parameter in unet.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return unet


def pictures_and_mel(size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(2, 3, size, size, generator=generator) for _ in range(3)]
    return *drawn, torch.randn(2, 1, 80, 16, generator=generator)


@torch.no_grad()
def test_cells_keep_apart_when_something_is_heard():
    """Reversed in time, a sound embeds alike under the mean over an encoder's map that is reversed too."""
    *_, mel = pictures_and_mel()
    for cells, columns in (((1, 1), 1), ((1, 8), 8)):
        unet = small(audio_cells=cells)
        style = unet.audio_encoder_to_style
        assert style[3].weight.shape == (unet.embedding_dim, 32, 1, columns)
        heard = unet.audio_encoder(mel)
        same = torch.allclose(style(heard), style(heard.flip(3)), atol=1e-5)
        assert same == (columns == 1)


@torch.no_grad()
def test_fewer_mel_bands_are_means_of_more() -> None:
    *_, mel = pictures_and_mel()
    unet = small(mel_bins=40)
    pairs = mel.unflatten(2, (40, 2)).mean(3)
    torch.testing.assert_close(unet.embed_audio(mel), unet.embed_audio(pairs))


@torch.no_grad()
def test_patches_become_channels():
    noisy, masked, reference, mel = pictures_and_mel()
    unet = small(patch=2)
    output = unet(noisy, torch.tensor([5, 700]), masked, lower_mask(16), reference, mel)
    assert output.shape == (2, 6, 16, 16)
    seen = []
    unet.input_blocks[0].register_forward_hook(lambda _, x, y: seen.append((x[0].shape, y.shape)))
    unet(noisy, torch.tensor([5, 700]), masked, lower_mask(16), reference, mel)
    assert seen == [((2, 36, 8, 8), (2, 8, 8, 8))]
    with pytest.raises(ValueError, match="patches of 2 cannot be halved 3 times"):
        Diff2LipUNet(8, 8, (1, 2, 2, 2), 1, (), patch=2)


@torch.no_grad()
def test_outer_blocks_alone_take_what_the_inner_ones_made():
    noisy, masked, reference, mel = pictures_and_mel()
    unet, mask = small(), lower_mask(16)
    embedding = unet.embed_time(torch.tensor([700, 700])) + unet.embed_audio(mel)
    whole = unet.denoise(noisy, embedding, masked, mask, reference)
    deep = DeepFeatures(blocks=2)
    assert torch.equal(unet.denoise(noisy, embedding, masked, mask, reference, deep), whole)
    ran = []
    for block in (*unet.input_blocks, unet.middle_block, *unet.output_blocks):
        block.register_forward_hook(lambda *_: ran.append(1))
    again = unet.denoise(noisy, embedding, masked, mask, reference, deep)
    torch.testing.assert_close(again, whole)  # the same picture: nothing has changed inside
    assert len(ran) == 4
    other = unet.denoise(noisy + 1, embedding, masked, mask, reference, deep)
    assert (other - whole).abs().max() > 1e-3  # the outer blocks do see the new one


@torch.no_grad()
def test_a_feature_cache_leaves_blocks_out_at_every_other_step():
    noisy, masked, reference, mel = pictures_and_mel()
    unet, diffusion = small(), GaussianDiffusion(linear_schedule())
    middle = []
    unet.middle_block.register_forward_hook(lambda *_: middle.append(1))
    given = unet, diffusion, DDIM(10), masked, reference, mel, lower_mask(16), noisy[:1]
    whole = inpaint(*given)
    assert len(middle) == 10
    cached = inpaint(*given, cache=FeatureCache(every=2, blocks=1))
    assert len(middle) == 15
    assert 0 < (cached - whole).abs().max() < 2
    assert torch.equal(inpaint(*given, cache=FeatureCache(every=1)), whole)
    with pytest.raises(ValueError, match="at least 1"):
        FeatureCache(every=0)


@torch.no_grad()
def test_a_residual_network_begins_as_a_copy_of_the_reference() -> None:
    noisy, masked, reference, mel = pictures_and_mel()
    torch.manual_seed(0)
    unet = Diff2LipUNet(16, 8, (1, 2), 1, (), 8, audio_channels=8, residual=True)
    output = unet(noisy, torch.tensor([5, 700]), masked, lower_mask(16), reference, mel)
    assert torch.equal(output[:, :3], reference) and not output[:, 3:].any()
