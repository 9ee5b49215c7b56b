"""Diff2Lip's step: what the network sees, which term acts when, and on which network."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from talkgen.cli import main
from talkgen.configuration import RunFolder
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.schedule import linear_schedule
from talkgen.errors import TalkgenError
from talkgen.inference.diff2lip import load_diff2lip
from talkgen.inference.runs import load_network
from talkgen.losses.adversarial import AdversarialLoss
from talkgen.losses.denoising import DenoisingLoss, TermTimesteps
from talkgen.losses.lip_sync import SyncLoss
from talkgen.losses.perceptual import GradientPyramidLoss
from talkgen.losses.sequence_adversarial import SequenceAdversarialLoss
from talkgen.losses.weights import Diff2LipWeights
from talkgen.models.diff2lip.inpainting import lower_mask
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.models.discriminators.patch import PatchDiscriminator
from talkgen.models.experts.syncnet import SyncNet
from talkgen.systems.diff2lip import Diff2LipSystem
from talkgen.systems.vqgan import AdversarialSchedule

SIZE = 16


def make_system(**arguments) -> Diff2LipSystem:
    torch.manual_seed(0)
    unet = Diff2LipUNet(SIZE, 8, (1, 2), 1, attention_resolutions=(8,), head_channels=8, audio_channels=8)
    optimizer = functools.partial(torch.optim.Adam, lr=1e-3)
    settings = {
        "perceptual": GradientPyramidLoss(),
        "sync": SyncLoss(SyncNet(width=1 / 16)),
        "sequence": SequenceAdversarialLoss(PatchDiscriminator(15, 8, 1), AdversarialLoss(), lower_half=True),
        "discriminator_optimizer": optimizer,
        "weights": Diff2LipWeights(),
    }
    return Diff2LipSystem(
        unet, DenoisingLoss(GaussianDiffusion(linear_schedule())), DDIM(2), optimizer=optimizer,
        **settings | arguments,
    )  # fmt: skip


def make_batch(size: int = 2, references: int = 1, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(size, *shape, generator=generator) * 2 - 1

    return {
        "video": draw(5, 3, SIZE, SIZE),
        "reference": draw(references, 3, SIZE, SIZE),
        "mel_per_frame": draw(5, 1, 80, 16),
        "mel": draw(1, 80, 16),
        "landmarks": draw(5, 68, 2) * 8,
    }


def fit(system: Diff2LipSystem, batches: list) -> list[dict[str, float]]:
    """Train in order; what each step logged."""
    rows: list[dict[str, float]] = []
    step = system.training_step

    def recorded(batch, batch_idx):
        row: dict[str, float] = {}
        system.log = lambda name, value, **_: row.update({name: float(value)})
        result = step(batch, batch_idx)
        rows.append(row)
        return result

    system.training_step = recorded
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(system, DataLoader(batches, batch_size=None))
    return rows


def test_what_the_network_sees():
    """Frames of a window share timestep and noise, and nothing of the hidden lips or of ε reaches it."""
    system = make_system()
    seen, denoise = {}, system.unet.denoise
    system.unet.embed_time = lambda t: seen.update(t=t) or Diff2LipUNet.embed_time(system.unet, t)
    system.unet.denoise = lambda *inputs: seen.update(inputs=inputs) or denoise(*inputs)
    windows = system.windows(make_batch())
    denoised = system.denoise(windows, torch.tensor([700, 20]))
    noisy, _, masked, mask, _ = seen["inputs"]
    t = seen["t"]
    assert t.tolist() == [700] * 5 + [20] * 5
    schedule = system.loss.diffusion.schedule
    alpha, sigma = schedule.alpha[t].view(-1, 1, 1, 1), schedule.sigma[t].view(-1, 1, 1, 1)
    noise = (noisy - alpha * windows.target) / sigma
    torch.testing.assert_close(noise[1], noise[0], atol=1e-4, rtol=0)
    assert (noise[5] - noise[0]).abs().max() > 1
    assert mask[0, 0, :, 0].tolist() == [0] * 8 + [1] * 8
    assert torch.equal(masked[:, :, :8], windows.target[:, :, :8])
    cover = masked[:, :, 8:]
    for told in (noise, windows.target):  # independent: their correlation is that of chance
        pair = torch.stack([cover[::5].flatten(), told[::5, :, 8:].flatten()])
        assert pair.corrcoef()[0, 1].abs() < 0.15
    assert torch.equal(denoised.generated[:, :, :8], windows.target[:, :, :8])
    assert denoised.generated.abs().max() <= 1


def test_every_frame_may_have_noise_of_its_own():
    system = make_system()
    noise = system.windows(make_batch()).noise(shared=False)
    assert noise.shape == (10, 3, SIZE, SIZE)
    assert (noise[1] - noise[0]).abs().max() > 1
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


def test_references_are_for_all_frames_or_for_each():
    system = make_system()
    batch = make_batch(references=1)
    assert torch.equal(system.windows(batch).reference[5:], batch["reference"][1].expand(5, -1, -1, -1))
    batch = make_batch(references=5)
    assert torch.equal(system.windows(batch).reference, batch["reference"].flatten(0, 1))
    with pytest.raises(TalkgenError, match="3 reference frames"):
        system.windows(make_batch(references=3))


def test_terms_begin_when_the_schedule_says():
    rows = fit(
        make_system(schedule=AdversarialSchedule(start=2, ramp=1, discriminator_start=1)),
        [make_batch(seed=i) for i in range(4)],
    )
    always = {"noise", "variational", "l2", "perceptual", "sync", "loss"}
    assert all({f"train/{name}" for name in always} <= row.keys() for row in rows)
    assert ["train/discriminator" in row for row in rows] == [False, True, True, True]
    assert ["train/adversarial" in row for row in rows] == [False, False, True, True]


def test_loss_is_the_weighted_sum():
    weights = Diff2LipWeights(noise=2, variational=0.5, l2=3, perceptual=0.25, sync=0.1, adversarial=0.5)
    schedule = AdversarialSchedule(start=0, ramp=3)
    row = fit(make_system(weights=weights, schedule=schedule), [make_batch()])[0]
    expected = sum(
        getattr(weights, name) * row[f"train/{name}"] * (0.25 if name == "adversarial" else 1)
        for name in ("noise", "variational", "l2", "perceptual", "sync", "adversarial")
    )
    assert row["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_terms_act_at_their_timesteps():
    """One of two windows is in range: each term is half of what it is there alone."""
    system = make_system(
        timesteps=TermTimesteps((0, 100), (0, 100), (0, 100), (0, 100)), schedule=AdversarialSchedule(0)
    ).eval()  # in training the discriminator's spectral norm moves with every call
    windows = system.windows(make_batch())
    denoised = system.denoise(windows, torch.tensor([50, 500]))
    terms = system.generator_terms(windows, denoised)
    first = {
        "target": windows.target[:5], "reference": windows.reference[:5], "heard": windows.heard[:5],
        "mel": windows.mel[:1], "landmarks": windows.landmarks[:1], "frames": 5,
    }  # fmt: skip
    alone = type(windows)(**first)
    only = type(denoised)(denoised.terms, torch.tensor([50]), denoised.generated[:5], denoised.heard[:5])
    expected = system.generator_terms(alone, only)
    for name in ("l2", "perceptual", "sync", "adversarial"):
        torch.testing.assert_close(terms[name], expected[name] / 2)
    nowhere = type(denoised)(denoised.terms, torch.tensor([400, 500]), denoised.generated, denoised.heard)
    terms = system.generator_terms(windows, nowhere)
    assert terms["l2"] == terms["perceptual"] == terms["adversarial"] == 0
    assert "sync" not in terms
    assert system.discriminator_term(windows, nowhere) == 0


def test_each_step_moves_its_own_network():
    system = make_system(weights=Diff2LipWeights(0, 0, 0, 0, 0, adversarial=0.5))
    system.schedule = AdversarialSchedule(start=5)

    def state(module: torch.nn.Module) -> list[torch.Tensor]:
        return [p.detach().clone() for p in module.parameters()]

    before = state(system.unet), state(system.sequence), state(system.sync.expert.module)
    fit(system, [make_batch()])
    after = state(system.unet), state(system.sequence), state(system.sync.expert.module)
    same = [
        all(torch.equal(a, b) for a, b in zip(x, y, strict=True)) for x, y in zip(before, after, strict=True)
    ]
    assert same == [True, False, True]
    assert {key.split(".")[0] for key in system.state_dict()} == {"unet", "sequence"}


def test_terms_of_weight_zero_are_not_computed():
    weights = Diff2LipWeights(variational=0, l2=0, perceptual=0, sync=0, adversarial=0)
    system = make_system(weights=weights)
    assert system.sequence is None
    row = fit(system, [make_batch()])[0]
    assert row.keys() == {"train/noise", "train/loss"}
    assert not isinstance(system.configure_optimizers()[0], torch.optim.Optimizer)


def test_the_hint_teaches_the_audio_encoder():
    weights = Diff2LipWeights(0, 0, 0, 0, 0, 0, shape=1.0)
    system = make_system(weights=weights)
    system.optimizer = functools.partial(torch.optim.Adam, lr=1e-2)
    batch = make_batch(4)
    before = [p.detach().clone() for p in system.unet.output_blocks.parameters()]
    rows = fit(system, [batch] * 30)
    assert rows[-1]["train/shape"] < 0.7 * rows[0]["train/shape"]
    assert all(torch.equal(p, q) for p, q in zip(before, system.unet.output_blocks.parameters(), strict=True))
    assert make_system().shape_head is None  # no weight, no hint


def test_errors_around_the_mouth_weigh_more():
    system = make_system(mouth=3.0)
    batch = make_batch()
    batch["landmarks"][:, :, 48:68] = torch.tensor([6.5, 10.5]) + 3 * torch.rand(20, 2)
    weight = system.windows(batch).mouth_weight(3.0)
    assert weight.shape == (10, 1, SIZE, SIZE)
    assert set(weight.unique().tolist()) == {1.0, 3.0}
    assert weight[0, 0, 12, 8] == 3 and weight[0, 0, 2, 8] == 1
    windows, t = system.windows(batch), torch.tensor([700, 20])
    plain = make_system()

    def errors(one):
        terms = one.denoise(windows, t, torch.Generator().manual_seed(0)).terms
        return float(terms.noise), float(terms.variational)

    assert errors(system)[0] > errors(plain)[0]
    assert errors(system)[1] == pytest.approx(errors(plain)[1])


def test_it_learns_one_batch():
    weights = Diff2LipWeights(adversarial=0, sync=0)
    system = make_system(weights=weights)
    system.optimizer = functools.partial(torch.optim.Adam, lr=4e-3)
    rows = fit(system, [make_batch()] * 40)
    noise = [row["train/noise"] for row in rows]
    assert np.mean(noise[-10:]) < 0.75 * np.mean(noise[:5])


def loud_batch(size: int, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Flat faces of any colour whose lower half is as bright as the mel is loud; and how loud it is."""
    generator = torch.Generator().manual_seed(seed)
    loudness = torch.rand(size, 5, generator=generator) * 2 - 1
    colour = torch.rand(size, 1, 3, 1, 1, generator=generator) * 1.2 - 0.6
    video = colour.expand(-1, 5, -1, 8, 8).clone()
    video[..., 4:, :] = 0.8 * loudness[:, :, None, None, None]
    reference = colour.expand(-1, -1, -1, 8, 8).clone()
    reference[..., 4:, :] = 0
    mel = -3 + 0.3 * torch.randn(size, 5, 1, 80, 16, generator=generator)
    mel[..., :40, :] += 3 * (loudness[:, :, None, None, None] + 1)
    landmarks = torch.zeros(size, 5, 68, 2)
    batch = {"video": video, "reference": reference, "mel_per_frame": mel, "mel": mel[:, 2]}
    return batch | {"landmarks": landmarks}, loudness.flatten()


@pytest.mark.slow
def test_lips_follow_the_sound():
    """Where noise leaves nothing to be seen (t = 900), held-out lips agree with their own sound alone."""
    weights = Diff2LipWeights(perceptual=0, sync=0, adversarial=0)
    system = make_system(weights=weights)
    torch.manual_seed(0)
    system.unet = Diff2LipUNet(8, 16, (1, 2), 1, attention_resolutions=(), audio_channels=8)
    system.mask = lower_mask(8)
    optimizer = torch.optim.Adam(system.unet.parameters(), 4e-3)
    for i in range(100):
        windows = system.windows(loud_batch(6, i)[0])
        terms = system.generator_terms(windows, system.denoise(windows, torch.full((6,), 900)))
        optimizer.zero_grad()
        sum(system.weight(name) * term for name, term in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(system.unet.parameters(), 1.0)
        optimizer.step()

    batch, loudness = loud_batch(16, seed=10**6)
    windows = system.eval().windows(batch)
    other = replace(windows, heard=windows.heard.roll(40, 0))

    def agreement(windows) -> float:
        with torch.no_grad():
            generated = system.denoise(windows, torch.full((16,), 900)).generated
        return float(torch.stack([generated[:, :, 4:].mean((1, 2, 3)), loudness]).corrcoef()[0, 1])

    assert agreement(windows) > 0.8
    assert abs(agreement(other)) < 0.4


@pytest.mark.parametrize("learned_range", [True, False])
def test_network_and_diffusion_must_agree(learned_range):
    unet = Diff2LipUNet(SIZE, 8, (1, 2), 1, audio_channels=8, learned_range=learned_range)
    loss = DenoisingLoss(GaussianDiffusion(linear_schedule(), learned_range=not learned_range))
    with pytest.raises(TalkgenError, match="learned_range"):
        Diff2LipSystem(unet, loss, DDIM(2), Diff2LipWeights(), torch.optim.Adam)


def test_samples_keep_what_is_not_masked():
    system = make_system().eval()
    batch = make_batch(1)
    given = batch["video"][0], batch["reference"][0], batch["mel_per_frame"][0]
    generated = system.sample(*given)
    assert torch.equal(generated[:, :, :8], batch["video"][0, :, :, :8])
    assert torch.equal(generated, system.sample(*given))
    assert (generated - batch["video"][0]).abs().max() > 0.1


def test_both_stages_through_the_command(tiny_store, tmp_path, monkeypatch):
    """The expert's run is found by the next stage; validation samples with both sounds; videos are made."""
    monkeypatch.chdir(tmp_path)
    fixed = [
        "size=tiny", f"data.root={tiny_store}", "data.workers=0", "logger=csv", "trainer.log_every_n_steps=1",
        "steps=2", "validate_every=2", "checkpoint_every=2",
    ]  # fmt: skip
    name = "name=diff2lip-tiny"
    assert main(["train", "experiment=sync_expert", f"{name}/sync_expert", *fixed]) == 0
    assert (
        main(
            ["train", "experiment=diff2lip_diffusion", f"{name}/diff2lip_diffusion", "sample_every=2", *fixed]
        )
        == 0
    )
    run = RunFolder(tmp_path / "runs/diff2lip-tiny/diff2lip_diffusion")
    header = run.metrics.read_text().splitlines()[0]
    for column in ("noise", "variational", "l2", "perceptual", "sync", "adversarial", "discriminator"):
        assert f"train/{column}" in header
    for column in ("noise", "psnr_mask", "psnr_mask_copy", "lips", "lips_other", "sync", "sync_other"):
        assert f"val/{column}" in header
    assert list(run.samples.glob("step-0000002-*.mp4"))
    saved = torch.load(run.best, weights_only=True)
    assert saved["batches"] == 2
    assert {key.split(".")[0] for key in saved["ema"]} == {"unet"}
    unet = load_network(run, "unet")
    assert torch.equal(unet.out[2].weight, saved["ema"]["unet.out.2.weight"])
    # a third stage: few steps
    assert main(["train", "experiment=diff2lip_distill", "name=diff2lip-tiny/diff2lip_distill", *fixed]) == 0
    distilled = load_diff2lip(tmp_path / "runs/diff2lip-tiny/diff2lip_distill")
    assert distilled.sampler == DDIM(1, spacing="trailing")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(distilled.unet.out[2].weight, unet.out[2].weight)
