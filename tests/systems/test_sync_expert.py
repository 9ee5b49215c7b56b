"""The sync expert: what it learns, what it logs, and when it says that it learns nothing."""

from __future__ import annotations

import functools
import logging
import math

import pytest
import torch

from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE
from talkgen.models.experts.syncnet import SyncNet
from talkgen.systems.sync_expert import StallWatch, SyncExpertSystem, sync_accuracy


def make_system(loss: torch.nn.Module, final_relu: bool) -> SyncExpertSystem:
    torch.manual_seed(0)
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-3)
    return SyncExpertSystem(SyncNet(width=1 / 16, final_relu=final_relu), loss, optimizer)


def make_batch(size: int, seed: int) -> dict[str, torch.Tensor]:
    """Mouths as bright as the sound is loud; the shifted sound is as loud as it was at another time."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.rand(size, 3, generator=generator)
    video = torch.zeros(size, 5, 3, 48, 48) + torch.rand(size, 1, 3, 1, 1, generator=generator) - 0.5
    video[:, :, :, 24:] = (2 * loudness[:, 0] - 1).view(-1, 1, 1, 1, 1)
    mel = (4 * loudness - 2).view(size, 3, 1, 1, 1).expand(size, 3, 1, 80, 16)
    return {"video": video, "mel": mel[:, 0], "shifted_mel": mel[:, 1:]}


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


def test_learns_which_sound_belongs_to_the_lips():
    torch.manual_seed(0)
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-2)
    system = SyncExpertSystem(Means(), ShiftedInfoNCE(), optimizer)
    optimizer = system.configure_optimizers()
    system.log = lambda *_, **__: None
    for step in range(60):
        loss = system.training_step(make_batch(16, step), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logged: dict[str, float] = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})
    system.log_dict = lambda values, **_: logged.update({k: float(v) for k, v in values.items()})
    system.eval()
    with torch.no_grad():
        system.validation_step(make_batch(64, 999), 0)
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
    ("loss", "chance"), [(CosineBCELoss(), math.log(2)), (ShiftedInfoNCE(), math.log(6))]
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
    assert sync_accuracy(positive, negative) == pytest.approx((1 + 0.5 + 1 + 0) / 4)
