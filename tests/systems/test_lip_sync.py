"""The lip-sync stage: its terms, what is trained and what is not, and that speech is learned."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from talkgen.errors import TalkgenError
from talkgen.losses.adversarial import AdversarialLoss
from talkgen.losses.weights import LipSyncWeights
from talkgen.models.discriminators.patch import PatchDiscriminator
from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.swaptalk.lip_sync import LipSync
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan
from talkgen.systems.lip_sync import LipSyncSystem

OPTIMIZER = functools.partial(torch.optim.AdamW, lr=1e-2)


def make_vqgan() -> VQGAN:
    torch.manual_seed(0)
    return build_vqgan(8, (1, 1, 2), 1, latent_channels=8, codes=16, code_dim=8, kmeans_vectors=0)


def make_system(weights: LipSyncWeights | None = None, **changes: Any) -> LipSyncSystem:
    vqgan = make_vqgan()
    lip_sync = LipSync(8, 16, (1,), 1, 2, warp_width=8, audio_width=16, grid=(4, 8), dropout=0.0)
    expert = LatentSyncNet(8, 16, blocks=1, audio_width=1 / 16, grid=(4, 8))
    expert.scale.set_from(codebook_vectors(vqgan))
    return LipSyncSystem(lip_sync, vqgan, expert, weights or LipSyncWeights(), OPTIMIZER, **changes)


def make_batch(size: int = 4, seed: int = 0) -> dict[str, Any]:
    """The lower codes of a frame are all c where it is loud, d where it is not; the upper ones are noise."""
    generator = torch.Generator().manual_seed(seed)
    loud = torch.rand(size, 5, generator=generator) > 0.5
    codes = torch.randint(16, (size, 5, 8, 8), generator=generator)
    codes[:, :, 4:] = torch.where(loud, 3, 11)[:, :, None, None]
    reference = torch.randint(16, (size, 1, 8, 8), generator=generator)
    reference[:, :, 4:] = 11
    mel = torch.where(loud, 2.0, -2.0)[:, :, None, None, None].expand(size, 5, 1, 80, 16)
    points = torch.rand(size, 5, 68, 2, generator=generator) * 8
    points[:, :, 48:68] += torch.tensor([12.0, 20.0])
    return {
        "codes": codes, "reference_codes": reference, "mel_per_frame": mel, "mel": mel[:, 2],
        "landmarks": points, "clip": [f"clip{i}" for i in range(size)], "frame": torch.arange(size),
    }  # fmt: skip


class Steps:
    """Runs ``training_step`` without a Trainer: optimisers and the backward pass, nothing else."""

    def __init__(self, system: LipSyncSystem) -> None:
        self.system = system
        self.logged: dict[str, float] = {}
        optimizers, _ = system.configure_optimizers()
        system.optimizers = lambda: optimizers  # type: ignore[method-assign]
        system.lr_schedulers = lambda: []  # type: ignore[method-assign]
        system.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
        system.log = lambda name, value, **_: self.logged.update({name: float(value)})  # type: ignore[method-assign]

    def run(self, steps: int, **changes: Any) -> dict[str, float]:
        for step in range(steps):
            self.system.training_step(make_batch(seed=step) | changes, step)
        return self.logged


def test_learns_which_code_a_sound_makes():
    system = make_system(LipSyncWeights(sync=0.0, shape=0.1))
    Steps(system).run(60)
    system.eval()
    batch = make_batch(8, seed=99)
    sample = system.look_up(batch)
    system.snap = True
    with torch.no_grad():
        made = system(sample.upper, sample.reference, batch["mel_per_frame"])
        other = system(sample.upper, sample.reference, -batch["mel_per_frame"])
    right = (made - sample.lower).abs().amax(2) < 1e-4
    assert right.float().mean() > 0.9
    assert ((other - sample.lower).abs().amax(2) < 1e-4).float().mean() < 0.4, "it does not listen"


def test_only_the_network_and_the_hint_are_trained():
    system = make_system(LipSyncWeights(sync=0.1, lips=0.1, shape=0.1))
    before = {name: value.clone() for name, value in system.vqgan.state_dict().items()}
    expert = {name: value.clone() for name, value in system.expert.state_dict().items()}
    Steps(system).run(2)
    assert all(torch.equal(value, before[name]) for name, value in system.vqgan.state_dict().items())
    assert all(torch.equal(value, expert[name]) for name, value in system.expert.state_dict().items())
    assert not [name for name in system.state_dict() if "vqgan" in name or "expert" in name]
    held = {id(p) for group in system.configure_optimizers()[0][0].param_groups for p in group["params"]}
    assert held == {id(p) for p in (*system.lip_sync.parameters(), *system.shape_head.parameters())}


def test_terms_of_weight_0_are_not_computed():
    logged = Steps(make_system(LipSyncWeights(sync=0.0))).run(1)
    assert {name for name in logged if name != "train/loss"} == {"train/code"}
    every = LipSyncWeights(1, 1, 1, 1, 1, 1, picture=1, perceptual=1, adversarial=1)
    system = make_system(
        every,
        perceptual=Distance(),
        discriminator=PatchDiscriminator(3, 8, 2),
        adversarial=AdversarialLoss("hinge"),
        discriminator_optimizer=OPTIMIZER,
        mouth_size=16,
        decode_every=2,
    )
    names = {"code", "sync", "lips", "shape", "entropy", "temporal"}
    pictures = {"picture", "perceptual", "adversarial", "discriminator"}
    steps = Steps(system)
    logged = steps.run(1)
    assert set(logged) == {f"train/{name}" for name in names | pictures | {"loss"}}
    expected = sum(logged[f"train/{name}"] for name in (names | pictures) - {"discriminator"})
    assert logged["train/loss"] == pytest.approx(expected, rel=1e-4)
    steps.logged.clear()
    system.training_step(make_batch(), 1)  # no pictures in between
    assert set(steps.logged) == {f"train/{name}" for name in names | {"loss"}}


class Distance(nn.Module):
    def forward(self, generated, ground_truth):
        return (generated - ground_truth).square().mean(dim=(1, 2, 3))


def test_the_discriminator_learns_and_the_network_does_not_move_it():
    system = make_system(
        LipSyncWeights(adversarial=1.0),
        discriminator=PatchDiscriminator(3, 8, 2),
        adversarial=AdversarialLoss("hinge"),
        discriminator_optimizer=OPTIMIZER,
        decode_every=1,
        mouth_size=16,
    )
    assert system.discriminator is not None
    before = [parameter.clone() for parameter in system.discriminator.parameters()]
    Steps(system).run(1)
    after = list(system.discriminator.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert len(system.configure_optimizers()[0]) == 2


def test_perfect_lips_have_no_distance():
    system = make_system(LipSyncWeights(sync=0.0, lips=1.0, temporal=1.0))
    sample = system.look_up(make_batch())
    terms = system.latent_terms(sample.lower, sample) | system.lip_terms(sample.lower, sample, None)
    assert set(terms) == {"code", "temporal", "lips"}
    assert all(float(term) == pytest.approx(0, abs=1e-5) for term in terms.values())
    frozen = sample.lower[:, :1].expand_as(sample.lower)
    moved = system.latent_terms(frozen, sample)
    change = system.lip_sync.scale.normalise(sample.lower).diff(dim=1).abs().mean()
    assert float(moved["temporal"]) == pytest.approx(float(change), rel=1e-4)


def test_the_mouth_weighs_more():
    plain, weighted = make_system(mouth=0.0), make_system(mouth=9.0)
    sample = plain.look_up(make_batch())
    cells = plain._cells(sample.landmarks, sample.lower.flatten(0, 1)).unflatten(0, (4, 5))
    assert 0 < cells.mean() < 0.5
    outside = sample.lower + (cells == 0)
    for system, more in ((plain, False), (weighted, True)):
        inside = system.latent_terms(sample.lower + cells.sign(), sample)["code"] / cells.sign().mean()
        beside = system.latent_terms(outside, sample)["code"] / (cells == 0).float().mean()
        assert (float(inside / beside) > 1.5) == more


def test_swapped_batches_are_made_of_another_persons_reference():
    calls = []

    class Swap(nn.Module):
        def forward(self, target, source):
            calls.append((target, source))
            return target + 1

    system = make_system(face_swap=Swap(), swapped=1.0)
    sample = system.look_up(make_batch())
    swapped = system.swap(sample)
    ((_, source),) = calls
    assert torch.equal(source.unflatten(0, (4, 6))[0, 3], sample.reference[3, 0])
    assert torch.equal(swapped.upper, sample.upper + 1)
    assert torch.equal(swapped.lower, sample.lower + 1)
    assert torch.equal(swapped.reference, sample.reference + 1)
    assert swapped.codes is None
    Steps(system).run(1)
    assert len(calls) == 2


def test_validation_reports_the_copied_reference_beside():
    system = make_system()
    logged: dict[str, float] = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign]
    system.eval()
    with torch.no_grad():
        system.validation_step(make_batch(), 0)
    # An untrained network gives the copied reference.
    for name in ("latent", "mouth", "psnr_mouth"):
        assert logged[f"val/{name}"] == pytest.approx(logged[f"val/{name}_copy"], rel=1e-3)
    assert {"val/lips", "val/lips_other", "val/sync", "val/sync_other", "val/sync_truth"} <= set(logged)
    assert logged["val/lips"] == pytest.approx(logged["val/lips_other"], abs=1e-4)


def test_sample_pictures_keep_the_upper_codes():
    system = make_system().eval()
    batch = make_batch()
    heard = batch["mel_per_frame"][0]
    shown = system.sample(batch["codes"][0], batch["reference_codes"][0], heard)
    assert shown.shape == (5, 3, 32, 32)
    assert shown.abs().max() <= 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": LipSyncWeights(adversarial=0.1)}, "discriminator"),
        ({"swapped": 0.5}, "face_swap"),
        ({"weights": LipSyncWeights(perceptual=0.1)}, "perceptual"),
    ],
)
def test_what_cannot_work_is_refused(changes, said):
    with pytest.raises(TalkgenError, match=said):
        make_system(**changes)


def test_networks_of_another_vqgan_are_refused():
    vqgan = make_vqgan()
    expert = LatentSyncNet(4, 16, blocks=1, audio_width=1 / 16, grid=(4, 8))
    with pytest.raises(TalkgenError, match="4 channels"):
        LipSyncSystem(LipSync(8, 16, (1,), 1, 2), vqgan, expert, LipSyncWeights(), OPTIMIZER)
