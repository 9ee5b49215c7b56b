"""PIRenderer: the published layout and numbers, and what it promises beside them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import recipe
import torch

from talkgen.checkpoints import load_published
from talkgen.errors import FileError
from talkgen.models.pirender.motion_window import edge_padded, renderer_motion, window_frames
from talkgen.models.pirender.pirenderer import PIRenderer
from talkgen.models.pirender.warping import points_by_flow, warp_by_flow

TINY = {
    "descriptor": 8, "warp_channels": 4, "warp_most_channels": 8, "warp_down": 3, "warp_up": 2,
    "edit_channels": 4, "edit_most_channels": 8, "edit_layers": 2, "edit_blocks": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(reference):
    return recipe.state_dict(json.loads((reference / "pirender_keys.json").read_text()), gain=0.6)


def test_published_numbers(weights, reference):
    net = PIRenderer().eval()
    report = load_published(net, {"net_G_ema": weights, "net_G": {}}, "pirender")
    assert (report.loaded, len(report.dropped)) == (256, 48)
    assert all(".conv1." in key or ".norm1." in key for key in report.dropped)
    published = np.load(reference / "pirender.npz")
    with torch.inference_mode():
        made = net(
            torch.from_numpy(published["source"]).float(), torch.from_numpy(published["coefficients"]).mT
        )
    for ours, name, tolerance in (
        (made.flow, "flow_field", 1e-3),
        (made.warped[..., ::4, ::4], "warp_image", 5e-3),
        (made.generated[..., ::4, ::4], "fake_image", 5e-3),
    ):
        expected = torch.from_numpy(published[name]).float()
        torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


def test_a_file_that_lacks_a_tensor_is_refused(weights):
    part = {key: value for key, value in weights.items() if key != "warpping_net.flow_out.2.bias"}
    with pytest.raises(FileError, match=r"warpping_net\.flow_out\.2\.bias"):
        load_published(PIRenderer(), part, "pirender")


def test_published_weights_are_not_for_fixed_blocks(weights):
    """They were never trained to use the first half of a block."""
    with pytest.raises(FileError, match="conv1"):
        load_published(PIRenderer(fix_res_block=True), weights, "pirender")
    assert sum(value.numel() for value in PIRenderer(fix_res_block=True).state_dict().values()) == sum(
        value.numel() for value in weights.values()
    )


def test_a_clip_at_once_is_window_by_window():
    net = recipe.fill(PIRenderer(**TINY), gain=0.6)
    motion = torch.randn(9, 73, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = net.describe(torch.from_numpy(edge_padded(motion.numpy()))[None])[0]
        assert whole.shape == (9, 8)
        for frame in (0, 4, 8):
            window = motion[torch.from_numpy(window_frames(frame, 9))]
            torch.testing.assert_close(whole[frame], net.describe(window[None])[0, 0], rtol=1e-4, atol=1e-4)


def test_one_source_serves_all_descriptors():
    net = recipe.fill(PIRenderer(**TINY), gain=0.6)
    source, z = torch.rand(1, 3, 32, 32) * 2 - 1, torch.randn(3, 8)
    with torch.inference_mode():
        together = net.render(source, z).generated
        alone = torch.cat([net.render(source, one[None]).generated for one in z])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.abs().max() <= 1


def test_no_flow_changes_nothing_only_where_corners_are_aligned():
    picture = torch.rand(1, 3, 32, 32)
    flow = torch.zeros(1, 2, 8, 8)
    torch.testing.assert_close(warp_by_flow(picture, flow, align_corners=True), picture, rtol=0, atol=1e-5)
    assert (warp_by_flow(picture, flow, align_corners=False) - picture).abs().mean() > 0.05


def test_flow_is_measured_in_its_own_cells():
    """A flow of one cell of 8 over 7 gaps moves a 29-pixel picture by 28 / 7 = 4 pixels."""
    picture = torch.zeros(1, 1, 29, 29)
    picture[..., 10, 20] = 1
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = 1
    moved = warp_by_flow(picture, flow, align_corners=True)
    assert moved[0, 0, 10].argmax() == 16
    assert moved.sum() == pytest.approx(1, abs=1e-4)


def test_landmarks_are_led_to_where_their_pixels_come_from():
    torch.manual_seed(0)
    flow = torch.randn(1, 2, 8, 8) * 0.3
    ramp = torch.stack(torch.meshgrid(torch.arange(29.0), torch.arange(29.0), indexing="xy"))[None]
    points = torch.tensor([[[12.0, 4.0], [20.0, 16.0], [8.0, 24.0]]])  # cells of the flow: no interpolation
    led = points_by_flow(points, flow, 29)
    warped = warp_by_flow(ramp, flow, align_corners=True)  # a picture of where its pixels come from
    expected = torch.stack([warped[0, :, int(y), int(x)] for x, y in points[0]])
    torch.testing.assert_close(led[0], expected, rtol=0, atol=1e-3)
    assert (led - points).abs().max() > 0.5


def test_relative_motion_is_told_apart_from_the_sources_own():
    net = recipe.fill(PIRenderer(**TINY, relative=True), gain=0.6)
    motion, own = torch.randn(1, 27, 73), torch.randn(2, 73)
    first, second = (net.describe(motion, one[None]) for one in own)
    assert (first - second).abs().max() > 0.1
    with pytest.raises(ValueError, match="of the source picture"):
        net.describe(motion)


def test_a_new_training_begins_with_the_source_itself():
    net = PIRenderer(**TINY, fix_res_block=True, align_corners=True, coarse_flow=3)
    source = torch.rand(2, 3, 32, 32) * 2 - 1
    made = net(source, torch.randn(2, 27, 73))
    torch.testing.assert_close(made.warped, source, rtol=0, atol=1e-5)
    made.generated.mean().backward()
    without = [name for name, value in net.named_parameters() if value.grad is None]
    assert without == []  # as published, a sixth of the network never gets a gradient


def test_standardised_coefficients_do_not_depend_on_their_scale():
    torch.manual_seed(0)
    net = PIRenderer(**TINY, standardise=True).eval()
    motion = torch.randn(60, 73)
    motion[:, 70:] = torch.tensor([1.0, 0.0, 0.0])  # the crop of a store never moves
    net.set_scale(motion)
    first = net.describe(motion[None])
    net.set_scale(motion * 100)
    torch.testing.assert_close(net.describe(motion[None] * 100), first, rtol=1e-3, atol=1e-4)


def test_motion_holds_expression_pose_and_crop():
    packed = np.arange(257, dtype=np.float32)[None]
    motion = renderer_motion(packed)
    assert motion.shape == (1, 73) and motion.dtype == np.float32
    assert motion[0].tolist() == [*range(80, 144), *range(224, 227), *range(254, 257), 1, 0, 0]
    assert window_frames(1, 5).tolist() == [0] * 13 + [1, 2, 3] + [4] * 11
