"""The denoiser: order and reach of its parts, what it hears, what it is told, and the ablations."""

from __future__ import annotations

import pytest
import torch

from talkgen.models.disenttalk.audio_interaction import AudioInteraction
from talkgen.models.disenttalk.denoiser import MotionDenoiser, split_width
from talkgen.models.disenttalk.motion_codec import RegionCodec
from talkgen.models.disenttalk.region_attention import RegionAttention
from talkgen.models.disenttalk.temporal_convolution import TemporalConvolution

SIZES = (6, 4, 10)


def network(**changes: object) -> MotionDenoiser:
    torch.manual_seed(0)
    made = MotionDenoiser(SIZES, 12, width=32, blocks=2, heads=2, **changes)  # type: ignore[arg-type]
    for parameter in made.parameters():  # what begins as nothing shall count
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def inputs(frames: int = 24, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(batch, frames, 20, generator=generator)
    heard = torch.randn(batch, frames, 12, generator=generator)
    return z, torch.full((batch,), 100), heard


@pytest.mark.parametrize("frames", [1, 7, 60])
def test_windows_of_any_length(frames: int) -> None:
    z, t, heard = inputs(frames)
    assert network()(z, t, heard).shape == z.shape


def test_remembering_the_sound_changes_nothing() -> None:
    net = network()
    z, t, heard = inputs()
    memory = net.remember(heard)
    torch.testing.assert_close(net.denoise(z, t, memory), net(z, t, heard))
    one = net.denoise(z[:1], t[:1], [part[:1] for part in memory])
    torch.testing.assert_close(one, net(z[:1], t[:1], heard[:1]), atol=1e-5, rtol=1e-4)


def test_it_hears_knows_the_time_and_what_is_known() -> None:
    net = network()
    z, t, heard = inputs()
    usual = net(z, t, heard)
    assert not torch.allclose(net(z, t, heard + 1e-1 * torch.randn_like(heard)), usual, atol=1e-4)
    assert not torch.allclose(net(z, t + 100, heard), usual, atol=1e-4)
    known = torch.zeros(2, 24)
    torch.testing.assert_close(net(z, t, heard, known), usual)
    known[:, :3] = 1
    assert not torch.allclose(net(z, t, heard, known), usual, atol=1e-4)


def test_who_is_dropped_hears_nothing() -> None:
    net = network()
    z, t, heard = inputs()
    dropped = torch.tensor([True, False])
    first = net(z, t, heard, None, dropped)
    second = net(z, t, heard.flip(1), None, dropped)
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-4)


def test_every_ablation_leaves_its_part_out() -> None:
    z, t, heard = inputs()
    count = {
        name: sum(p.numel() for p in network(**{name: False}).parameters())
        for name in ("temporal", "local", "hierarchical")
    }
    whole = sum(p.numel() for p in network().parameters())
    assert count["temporal"] < whole and count["local"] < whole
    assert count["hierarchical"] > whole  # one attention over all channels
    for name in count:
        assert network(**{name: False})(z, t, heard).shape == z.shape


@torch.no_grad()
def test_mouth_and_eyes_attend_to_themselves() -> None:
    """Of the three attentions only the global one sees the others' channels."""
    torch.manual_seed(0)
    attention = RegionAttention((8, 4, 4), heads=2).eval()
    attention.norm = torch.nn.Identity()  # type: ignore[assignment]
    attention.fusion.weight.data.copy_(torch.eye(16))
    x = torch.randn(1, 5, 16)
    moved = x.clone()
    moved[:, :, 8:12] += 1  # the eyes
    change = (attention(moved) - moved - (attention(x) - x)).abs().amax((0, 1))
    assert float(change[:8].max()) < 1e-6
    assert float(change[8:12].min()) > 1e-5 and float(change[12:].min()) > 1e-5


def test_the_dilated_convolutions_see_four_frames_away() -> None:
    torch.manual_seed(0)
    layer = TemporalConvolution(8).eval()
    x = torch.randn(1, 21, 8)
    moved = x.clone()
    moved[0, 10] += torch.randn(8)
    change = (layer(moved) - layer(x)).abs().amax(2)[0]
    assert sorted((change > 1e-6).nonzero().flatten().tolist()) == [6, 8, 9, 10, 11, 12, 14]


def test_the_local_path_sees_two_frames_of_sound() -> None:
    torch.manual_seed(0)
    layer = AudioInteraction(8, 2).eval()
    torch.nn.init.zeros_(layer.cross.out.weight)  # so that the local path is alone
    x, heard = torch.randn(1, 15, 8), torch.randn(1, 15, 8)
    moved = heard.clone()
    moved[0, 7] += torch.randn(8)
    change = (layer(x, layer.remember(moved)) - layer(x, layer.remember(heard))).abs().amax(2)[0]
    assert (change > 1e-6).nonzero().flatten().tolist() == [5, 6, 7, 8, 9]


def test_half_of_the_channels_are_the_mouths() -> None:
    assert split_width(512, 3) == (256, 128, 128)
    assert split_width(64, 1) == (64,)


def test_the_codec_keeps_regions_apart() -> None:
    torch.manual_seed(0)
    codec = RegionCodec(SIZES, (8, 4, 12), width=16)
    z = torch.randn(2, 9, 20)
    code = codec.encode(z)
    assert code.mean.shape == (2, 9, 24) and codec.decode(code.sample()).shape == z.shape
    moved = z.clone()
    moved[:, :, 6:10] += 1
    change = (codec.encode(moved).mean - code.mean).abs().amax((0, 1))
    assert float(change[:8].max()) == 0 and float(change[12:].max()) == 0 and float(change[8:12].min()) > 0
    assert float(code.divergence()) > 0
