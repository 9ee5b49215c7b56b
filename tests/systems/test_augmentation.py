"""Another voice, the same timing."""

from __future__ import annotations

import pytest
import torch

from talkgen.models.experts.lip_view import LipView
from talkgen.systems.augmentation import BoxAugmentation, ColourAugmentation, VoiceAugmentation


def test_all_mels_of_a_sample_change_alike():
    torch.manual_seed(0)
    mels = torch.rand(4, 1, 1, 80, 16).expand(4, 3, 1, 80, 16)
    changed = VoiceAugmentation(gain=0.5, shift=4)(mels)
    assert torch.equal(changed[:, 0], changed[:, 2])
    assert not torch.equal(changed, mels)


def test_samples_with_one_voice_change_alike():
    torch.manual_seed(0)
    mels = torch.rand(1, 1, 1, 80, 16).expand(4, 1, 1, 80, 16)
    changed = VoiceAugmentation(gain=0.5, shift=4)(mels, torch.tensor([2, 3, 2, 3]))
    assert torch.equal(changed[0], changed[2]) and torch.equal(changed[1], changed[3])
    assert not torch.equal(changed[0], changed[1])


def test_level_and_bands_by_hand():
    """A mel whose value is its band's number: moved by at most the shift, plus one number for all."""
    torch.manual_seed(1)
    mels = torch.arange(80.0).view(1, 1, 1, 80, 1).expand(8, 2, 1, 80, 16)
    difference = (VoiceAugmentation(gain=0.5, shift=4)(mels) - mels)[:, :, :, 10:70]
    per_sample = difference.flatten(1)
    assert (per_sample.amax(1) - per_sample.amin(1)).max() < 1e-5
    assert per_sample.abs().max() <= 4.5
    assert len(per_sample[:, 0].round().unique()) > 2


def test_colours_change_as_one_line_a_channel():
    """Where nothing is clipped, a channel is a·x + b with |a − 1| and |b| at most 0.1."""
    torch.manual_seed(0)
    picture = torch.rand(6, 3, 8, 8) - 0.5
    changed = ColourAugmentation(gain=0.1, offset=0.1)(picture)
    x, y = picture.flatten(2), changed.flatten(2)
    slope = (y[..., 1:] - y[..., :1]) / (x[..., 1:] - x[..., :1])
    assert (slope - slope[..., :1]).abs().max() < 1e-2
    assert (slope[..., 0] - 1).abs().max() <= 0.101
    assert (y - slope[..., :1] * x).abs().max() <= 0.11
    assert len(slope[..., 0].unique()) == 18
    assert ColourAugmentation(gain=0, offset=3)(picture).abs().max() <= 1


def test_boxes_move_and_grow_by_at_most_what_is_said():
    """In the box of the given landmarks, the corner of each other box lies within shift and zoom."""
    torch.manual_seed(0)
    points = torch.zeros(64, 5, 68, 2)
    points[..., 0] = torch.linspace(30, 70, 68)
    points[:, :, 17:27, 1], points[:, :, 8, 1] = 20, 60  # a face 40 pixels high
    changed = BoxAugmentation(shift=0.05, zoom=0.1)(points)
    sizes = (changed[:, :, 8, 1] - changed[:, :, 20, 1]) / 40
    assert 0.9 <= sizes.min() < 0.95 and 1.05 < sizes.max() <= 1.1
    moved = changed.mean((1, 2)) - points.mean((1, 2))
    assert (moved.abs().amax(0) <= 2).all() and (moved.abs().amax(0) > 1.5).all()
    assert (changed - changed[:, :1]).abs().max() < 1e-5  # all frames of a window alike
    view = LipView()
    assert not torch.allclose(view.matrix(changed, 96), view.matrix(points, 96))
    assert torch.equal(BoxAugmentation(0, 0)(points), points)
    with pytest.raises(ValueError, match="zoom"):
        BoxAugmentation(zoom=1.0)


def test_noise_is_another_one_in_every_cell():
    torch.manual_seed(0)
    mels = torch.zeros(2, 3, 1, 80, 16)
    noisy = VoiceAugmentation(gain=0, shift=0, noise=0.5)(mels)
    assert abs(float(noisy.std()) - 0.5) < 0.02
    assert not torch.equal(noisy[:, 0], noisy[:, 1])
