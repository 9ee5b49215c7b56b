"""Another voice, the same timing."""

from __future__ import annotations

import torch

from talkgen.systems.augmentation import VoiceAugmentation


def test_all_mels_of_a_sample_change_alike():
    torch.manual_seed(0)
    mels = torch.rand(4, 1, 1, 80, 16).expand(4, 3, 1, 80, 16)
    changed = VoiceAugmentation(gain=0.5, shift=4)(mels)
    assert torch.equal(changed[:, 0], changed[:, 2])
    assert not torch.equal(changed, mels)


def test_level_and_bands_by_hand():
    """A mel whose value is its band's number: moved by at most the shift, plus one number for all."""
    torch.manual_seed(1)
    mels = torch.arange(80.0).view(1, 1, 1, 80, 1).expand(8, 2, 1, 80, 16)
    difference = (VoiceAugmentation(gain=0.5, shift=4)(mels) - mels)[:, :, :, 10:70]
    per_sample = difference.flatten(1)
    assert (per_sample.amax(1) - per_sample.amin(1)).max() < 1e-5
    assert per_sample.abs().max() <= 4.5
    assert len(per_sample[:, 0].round().unique()) > 2
