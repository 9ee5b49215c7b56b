"""The sync expert: what it learns, what it logs, and when it says that it learns nothing."""

from __future__ import annotations

import functools
import logging
import math
from typing import Any

import pytest
import torch

from talkgen.errors import TalkgenError
from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE
from talkgen.models.experts.lip_view import LipView
from talkgen.models.experts.syncnet import SyncNet, syncnet_input
from talkgen.systems.augmentation import BoxAugmentation, VoiceAugmentation
from talkgen.systems.contrastive_sync import StallWatch, sync_accuracy
from talkgen.systems.sync_expert import SyncExpertSystem


def make_system(loss: torch.nn.Module, final_relu: bool) -> SyncExpertSystem:
    torch.manual_seed(0)
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-3)
    return SyncExpertSystem(SyncNet(width=1 / 16, final_relu=final_relu), loss, optimizer)


def make_batch(size: int, seed: int) -> dict[str, Any]:
    """Mouths as bright as the sound is loud; the shifted sound is as loud as it was at another time."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.rand(size, 3, generator=generator)
    video = torch.zeros(size, 5, 3, 48, 48) + torch.rand(size, 1, 3, 1, 1, generator=generator) - 0.5
    video[:, :, :, 24:] = (2 * loudness[:, 0] - 1).view(-1, 1, 1, 1, 1)
    mel = (4 * loudness - 2).view(size, 3, 1, 1, 1).expand(size, 3, 1, 80, 16)
    places = {"clip": [str(i) for i in range(size)], "frame": torch.zeros(size, dtype=torch.long)}
    return {"video": video, "mel": mel[:, 0], "shifted_mel": mel[:, 1:], **places}


def windows_of_clips(size: int, seed: int) -> dict[str, Any]:
    """The same without shifted sound: windows 3 frames apart of two clips."""
    batch = make_batch(size, seed)
    del batch["shifted_mel"]
    batch["clip"] = ["a" if i < size // 2 else "b" for i in range(size)]
    batch["frame"] = 3 * torch.arange(size)
    return batch


class Means(torch.nn.Module):
    """An expert small enough to learn in a second: loudness and brightness through a few neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8))
        self.face = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8))

    def embed_audio(self, mel):
        return torch.nn.functional.normalize(self.audio(mel.mean(dim=(2, 3))), dim=1)

    def embed_face(self, face):
        return torch.nn.functional.normalize(self.face(face.mean(dim=(1, 2, 3))[:, None]), dim=1)


@pytest.mark.parametrize("batch", [make_batch, windows_of_clips])
def test_learns_which_sound_belongs_to_the_lips(batch):
    torch.manual_seed(0)
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-2)
    system = SyncExpertSystem(Means(), ShiftedInfoNCE(), optimizer)
    optimizer = system.configure_optimizers()
    system.log = lambda *_, **__: None
    for step in range(60):
        loss = system.training_step(batch(16, step), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logged: dict[str, float] = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})
    system.log_dict = lambda values, **_: logged.update({k: float(v) for k, v in values.items()})
    system.eval()
    with torch.no_grad():
        system.validation_step(batch(64, 999), 0)
    system.on_validation_epoch_end()
    assert logged["val/accuracy"] > 0.85
    assert logged["val/positive_mean"] > logged["val/negative_mean"] + 0.3
    assert logged["val/positive_p05"] <= logged["val/positive_p50"] <= logged["val/positive_p95"]


def test_all_audio_goes_through_one_forward_pass():
    """Else batch normalisation would see in-sync and shifted mels apart, and give the answer away."""
    system = make_system(ShiftedInfoNCE(), final_relu=False)
    sizes = []
    system.expert.audio_encoder.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    system.embed(make_batch(4, 0))
    assert sizes == [4 * 3]


def test_windows_of_the_clip_are_what_it_is_scored_with():
    system = make_system(ShiftedInfoNCE(), final_relu=False).eval()
    logged: dict[str, float] = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})
    system.log_dict = lambda values, **_: None
    batch = windows_of_clips(8, 0)
    with torch.no_grad():
        audio, face, shifted = system.embed(batch)
        system.validation_step(batch, 0)
        system.on_validation_epoch_end()
    assert shifted.shape == (8, 0, system.expert.dim)
    pairs = face @ audio.T
    # four windows 3 frames apart: 0 and 2, 0 and 3, 1 and 3 are at least five apart
    chosen = [(i, j) for k in (0, 4) for i, j in ((0, 2), (2, 0), (0, 3), (3, 0), (1, 3), (3, 1))
              for i, j in ((i + k, j + k),)]  # fmt: skip
    right = [float(pairs[i, i] > pairs[i, j]) + 0.5 * float(pairs[i, i] == pairs[i, j]) for i, j in chosen]
    assert logged["val/accuracy"] == pytest.approx(sum(right) / len(right))


def test_validation_in_mixed_precision():
    system = make_system(ShiftedInfoNCE(), final_relu=False).eval()
    logged: dict[str, torch.Tensor] = {}
    system.log = lambda name, value, **_: logged.update({name: value})
    system.log_dict = lambda values, **_: logged.update(values)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        system.validation_step(windows_of_clips(8, 0), 0)
        system.on_validation_epoch_end()
    assert all(value.dtype == torch.float32 for value in logged.values())


def test_batches_without_sound_of_other_moments_are_refused():
    system = make_system(ShiftedInfoNCE(), final_relu=False)
    batch = make_batch(4, 0)
    del batch["shifted_mel"]
    with pytest.raises(TalkgenError, match="windows_per_clip"):
        system.training_step(batch, 0)


def test_a_clip_has_one_voice_in_a_batch():
    system = make_system(ShiftedInfoNCE(), final_relu=False)
    system.augmentation = VoiceAugmentation()
    heard = []
    system.expert.audio_encoder.register_forward_hook(lambda module, args, out: heard.append(args[0]))
    batch = windows_of_clips(8, 0)
    batch["mel"] = torch.rand(1, 1, 80, 16).expand(8, 1, 80, 16)
    system.embed(batch)
    (mels,) = heard
    assert torch.equal(mels[0], mels[3]) and torch.equal(mels[4], mels[7])
    assert not torch.equal(mels[0], mels[4])
    system.eval().embed(batch)
    assert torch.equal(heard[1], batch["mel"])


def test_boxes_vary_in_training_alone():
    system = make_system(ShiftedInfoNCE(), final_relu=False)
    system.view, system.box = LipView(), BoxAugmentation()
    seen = []
    system.expert.face_encoder.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    batch = windows_of_clips(4, 0)
    batch["video"] = torch.rand(4, 5, 3, 48, 48)
    batch["landmarks"] = (torch.rand(4, 5, 68, 2) * 30 + 9).sort(dim=2).values
    system.embed(batch)
    system.eval().embed(batch)
    assert not torch.allclose(seen[0], seen[1])
    torch.testing.assert_close(seen[1], syncnet_input(system.view(batch["video"], batch["landmarks"])))


def test_the_learned_temperature_is_optimised():
    system = make_system(ShiftedInfoNCE(), final_relu=False)
    held = {id(p) for group in system.configure_optimizers().param_groups for p in group["params"]}
    assert id(system.loss.log_temperature) in held


def test_published_loss_runs_with_published_network():
    system = make_system(CosineBCELoss(), final_relu=True)
    system.log = lambda *_, **__: None
    loss = system.training_step(make_batch(4, 0), 0)
    assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize(
    ("loss", "chance"), [(CosineBCELoss(), math.log(2)), (ShiftedInfoNCE(symmetric=False), math.log(6))]
)
def test_a_stall_is_reported_once_with_its_cures(loss, chance, caplog):
    assert loss.chance(4, 2) == pytest.approx(chance)
    watch = StallWatch(after=100, window=50)
    with caplog.at_level(logging.WARNING):
        for _ in range(400):
            watch.watch(torch.tensor(0.999 * chance), chance)
    (record,) = caplog.records
    for cause in ("batch", "clips", "offset", "crop", "duplicates"):
        assert cause in record.getMessage()


def test_no_stall_where_the_loss_has_fallen(caplog):
    watch = StallWatch(after=100, window=50)
    with caplog.at_level(logging.WARNING):
        for step in range(200):
            watch.watch(torch.tensor(0.693 if step < 50 else 0.6), math.log(2))
    assert not caplog.records


def test_accuracy_by_hand():
    positive, negative = torch.tensor([0.5, 0.1]), torch.tensor([[0.2, 0.5], [0.0, 0.4]])
    everything = torch.ones(2, 2, dtype=torch.bool)
    assert sync_accuracy(positive, negative, everything) == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    everything[1, 1] = False
    assert sync_accuracy(positive, negative, everything) == pytest.approx((1 + 0.5 + 1) / 3)
