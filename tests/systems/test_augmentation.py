"""Another voice, the same timing."""

from __future__ import annotations

import torch

from talkgen.systems.augmentation import ColourAugmentation, VoiceAugmentation


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
