"""The VQGAN's step: which term acts when, and on which network."""

from __future__ import annotations

import functools

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from talkgen.losses.adversarial import AdversarialLoss
from talkgen.losses.perceptual import GradientPyramidLoss
from talkgen.losses.weights import VQGANWeights
from talkgen.metrics.seam import seam
from talkgen.models.discriminators.patch import PatchDiscriminator
from talkgen.models.vqgan.vqgan import build_vqgan
from talkgen.systems.vqgan import AdversarialSchedule, CodeUse, VQGANSystem


def make_system(schedule: AdversarialSchedule, **arguments) -> VQGANSystem:
    torch.manual_seed(0)
    vqgan = build_vqgan(8, (1, 2), 1, latent_channels=8, codes=16, code_dim=4, kmeans_vectors=16)
    optimizer = functools.partial(torch.optim.Adam, lr=1e-3)
    return VQGANSystem(
        vqgan,
        PatchDiscriminator(channels=8, layers=1),
        AdversarialLoss(),
        VQGANWeights(),
        schedule,
        optimizer,
        optimizer,
        **arguments,
    )


def make_batches(count: int, size: int = 2) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    warp = torch.tensor([[112 / 16, 0, 0], [0, 112 / 16, 0]]).expand(size, 1, 2, 3)
    return [
        {
            "video": torch.rand(size, 1, 3, 16, 16, generator=generator) * 2 - 1,
            "identity_warp": warp,
            "landmarks": torch.rand(size, 1, 68, 2, generator=generator) * 15,
        }
        for _ in range(count)
    ]


class Recorder(torch.nn.Module):
    """Stands for an identity loss; remembers what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Size, torch.Size]] = []

    def forward(self, fake, image, warp):
        self.calls.append((fake.shape, warp.shape))
        return (fake - image).square().mean()


def fit(system: VQGANSystem, batches: list) -> list[dict[str, float]]:
    """Train in order; what each step logged."""
    rows: list[dict[str, float]] = []
    step = system.training_step

    def recorded(batch, batch_idx):
        row: dict[str, float] = {}
        system.log = lambda name, value, **_: row.update({name: float(value)})
        system.log_dict = lambda values, **_: row.update({k: float(v) for k, v in values.items()})
        result = step(batch, batch_idx)
        rows.append(row)
        return result

    system.training_step = recorded
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=2,
    )  # fmt: skip
    trainer.fit(system, DataLoader(batches, batch_size=None))
    assert trainer.global_step >= len(batches)
    return rows


def test_terms_begin_when_the_schedule_says():
    identity = Recorder()
    schedule = AdversarialSchedule(start=3, ramp=1, discriminator_start=1)
    system = make_system(schedule, identity=identity, perceptual=GradientPyramidLoss())
    rows = fit(system, make_batches(5))
    assert system.batches == 5
    assert ["train/discriminator" in row for row in rows] == [False, True, True, True, True]
    assert ["train/adversarial" in row for row in rows] == [False, False, False, True, True]
    assert ["train/identity" in row for row in rows] == [False, False, False, True, True]
    assert identity.calls == [((2, 3, 16, 16), (2, 2, 3))] * 2
    assert [row["train/d_weight"] for row in rows[3:]] == pytest.approx([0.8 * 0.5, 0.8])
    assert all({"train/l1", "train/perceptual", "train/codebook"} <= row.keys() for row in rows)
    # codes are counted over each logging interval of two batches
    assert ["train/active_codes_upper" in row for row in rows] == [False, True, False, True, False]


def test_generator_learns_and_discriminator_waits():
    system = make_system(AdversarialSchedule(start=100, discriminator_start=100))
    generator = [p.clone() for p in system.vqgan.parameters()]
    discriminator = [p.clone() for p in system.discriminator.parameters()]
    fit(system, make_batches(2))
    assert any(not torch.equal(a, b) for a, b in zip(generator, system.vqgan.parameters(), strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(discriminator, system.discriminator.parameters(), strict=True)
    )


def test_discriminator_step_leaves_the_generator_alone():
    """With every weight of the generator's terms at 0, only the discriminator may move."""
    system = make_system(AdversarialSchedule(start=0))
    system.weights = VQGANWeights(l1=0, perceptual=0, codebook=0, adversarial=0, identity=0)
    generator = [p.clone() for p in system.vqgan.parameters()]
    discriminator = [p.clone() for p in system.discriminator.parameters()]
    fit(system, make_batches(2))
    assert all(torch.equal(a, b) for a, b in zip(generator, system.vqgan.parameters(), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(discriminator, system.discriminator.parameters(), strict=True)
    )


def test_reconstruction_improves():
    system = make_system(AdversarialSchedule(start=10**6, discriminator_start=10**6))
    rows = fit(system, make_batches(1) * 40)
    assert rows[-1]["train/l1"] < 0.8 * rows[0]["train/l1"]


def test_adaptive_weight_is_logged_and_bounded():
    rows = fit(make_system(AdversarialSchedule(start=0), adaptive=True), make_batches(3))
    assert all(0 <= row["train/d_weight"] <= 0.8 for row in rows)
    assert len({row["train/d_weight"] for row in rows}) > 1


def test_gradient_is_clipped_inside_the_step():
    """Plain gradient descent at rate 1 moves each network by no more than the bound."""
    system = make_system(AdversarialSchedule(start=0), gradient_clip=1e-3)
    system.optimizer = system.discriminator_optimizer = functools.partial(torch.optim.SGD, lr=1.0)
    networks = (system.vqgan, system.discriminator)
    before = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in networks]
    fit(system, make_batches(1))
    for old, net in zip(before, networks, strict=True):
        moved = (torch.cat([p.detach().flatten() for p in net.parameters()]) - old).norm()
        assert 0 < moved <= 1.01e-3


def test_schedule_by_hand():
    schedule = AdversarialSchedule(start=10, ramp=4, discriminator_start=5)
    assert [schedule.factor(i) for i in (0, 9, 10, 11, 13, 14, 99)] == [0, 0, 0.2, 0.4, 0.8, 1, 1]
    with pytest.raises(ValueError, match="before it pushes"):
        AdversarialSchedule(start=1, discriminator_start=2)


def test_code_use_by_hand():
    use = CodeUse()
    use.update(torch.tensor([[[0, 0], [1, 1]]]), 4)  # upper row: 0, 0; lower row: 1, 1
    use.update(torch.tensor([[[2, 2], [1, 1]]]), 4)
    values = use.compute()
    assert values["active_codes_upper"] == 2
    assert values["active_codes_lower"] == 1
    assert values["perplexity_upper"] == pytest.approx(2)
    assert values["perplexity_lower"] == pytest.approx(1)
    use.reset()
    assert use.compute() == {}


def test_counters_travel_with_checkpoints():
    system = make_system(AdversarialSchedule(start=3), perceptual=GradientPyramidLoss())
    fit(system, make_batches(3))
    checkpoint = {"state_dict": system.state_dict()}
    system.on_save_checkpoint(checkpoint)
    again = make_system(AdversarialSchedule(start=3))
    again.on_load_checkpoint(checkpoint)
    assert again.batches == 3
    assert torch.equal(again.code_use.counts, system.code_use.counts)


def test_seam_finds_a_seam():
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 32, 32)
    assert seam(picture) == pytest.approx([1, 1], abs=0.3)
    picture[1, :, 16:] += 3
    assert float(seam(picture)[1]) > 5
