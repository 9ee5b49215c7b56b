"""Renderers in use: whole clips, any frame rate, and frames as motion comes."""

from __future__ import annotations

import numpy as np
import pytest
import recipe
import torch

from talkgen.face3d.coefficients import ANGLE, EXPRESSION
from talkgen.face3d.head import build_head
from talkgen.face3d.rasterizer import Camera
from talkgen.inference.mesh_preview import MeshPreview
from talkgen.inference.motion_renderer import MeshRenderer, MotionRenderer
from talkgen.models.pirender.motion_window import edge_padded, renderer_motion
from talkgen.models.pirender.pirenderer import PIRenderer

TINY = {
    "descriptor": 8, "warp_channels": 4, "warp_most_channels": 8, "warp_down": 3, "warp_up": 1,
    "edit_channels": 4, "edit_most_channels": 8, "edit_layers": 2, "edit_blocks": 1,
    "standardise": True, "relative": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> PIRenderer:
    network = PIRenderer(**TINY)
    recipe.fill(network, gain=0.6)
    return network


@pytest.fixture(scope="module")
def motion() -> np.ndarray:
    random = np.random.default_rng(0)
    coefficients = np.zeros((40, 257), np.float32)
    coefficients[:, EXPRESSION] = random.normal(size=(40, 64)).cumsum(0) * 0.1
    coefficients[:, ANGLE] = random.normal(size=(40, 3)).cumsum(0) * 0.02
    return coefficients


SOURCE = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)


def test_a_clip_is_what_the_network_makes_of_every_window(network, motion):
    renderer = MotionRenderer(network, 32, batch_frames=7)
    frames = list(renderer.clip(SOURCE, motion[0], motion))
    assert len(frames) == 40 and frames[0].shape == (32, 32, 3)
    padded = torch.from_numpy(edge_padded(renderer_motion(motion)))
    face = torch.from_numpy(SOURCE).permute(2, 0, 1)[None].float() / 127.5 - 1
    for frame in (0, 20, 39):
        with torch.inference_mode():
            made = network(face, padded[None, frame : frame + 27], padded[None, 13]).generated[0]
        expected = ((made.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()
        assert np.abs(frames[frame] - expected).max() <= 1


def test_a_stream_that_waits_long_enough_is_the_clip(network, motion):
    clip = np.stack(list(MotionRenderer(network, 32).clip(SOURCE, motion[0], motion)))
    whole = np.stack(list(MotionRenderer(network, 32, ahead=13).stream(SOURCE, motion[0], iter(motion))))
    soon = np.stack(list(MotionRenderer(network, 32, ahead=2).stream(SOURCE, motion[0], iter(motion))))
    assert whole.shape == soon.shape == clip.shape
    assert np.abs(whole.astype(int) - clip).max() <= 1
    assert 0 < np.abs(soon.astype(int) - clip).mean() < 10  # it does not know what will come


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_stream_gives_each_frame_as_soon_as_it_may(network, motion, ahead):
    taken = 0

    def rows():
        nonlocal taken
        for row in motion[:10]:
            taken += 1
            yield row

    heard = []
    for _ in MotionRenderer(network, 32, ahead=ahead).stream(SOURCE, motion[0], rows()):
        heard.append(taken)
    assert heard == [min(number + ahead + 1, 10) for number in range(10)]


def test_any_frame_rate_lasts_as_long(network, motion):
    renderer = MotionRenderer(network, 32)
    clip = list(renderer.clip(SOURCE, motion[0], motion))
    double, slow = (
        list(renderer.clip(SOURCE, motion[0], motion, 50)),
        list(renderer.clip(SOURCE, motion[0], motion, 10)),
    )
    assert (len(double), len(slow)) == (80, 16)
    for number in range(40):
        assert np.abs(double[2 * number].astype(int) - clip[number]).max() <= 1
    between = np.abs(double[21].astype(int) - clip[10]).mean()
    assert between < np.abs(clip[11].astype(int) - clip[10]).mean()
    assert np.abs(slow[2].astype(int) - clip[5]).max() <= 1


def test_the_mesh_takes_a_renderers_place(motion):
    renderer = MeshRenderer(MeshPreview(build_head(), Camera(size=48)))
    clip = list(renderer.clip(SOURCE, motion[0], motion[:6]))
    assert len(clip) == 6 and clip[0].shape == (48, 48, 3)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(clip, renderer.stream(SOURCE, motion[0], motion[:6]), strict=True)
    )
    assert len(list(renderer.clip(SOURCE, motion[0], motion[:6], 50))) == 12


def test_bfloat16_is_near(network, motion):
    exact = np.stack(list(MotionRenderer(network, 32).clip(SOURCE, motion[0], motion[:4]))).astype(int)
    rounded = np.stack(list(MotionRenderer(network, 32, bf16=True).clip(SOURCE, motion[0], motion[:4])))
    assert 0 < np.abs(rounded - exact).mean() < 6


def test_it_cannot_wait_longer_than_a_window(network):
    with pytest.raises(ValueError, match="between 0 and 13"):
        MotionRenderer(network, 32, ahead=14)
