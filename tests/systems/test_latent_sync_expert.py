"""The latent sync expert's system: what it learns, and which windows validation compares."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from talkgen.errors import TalkgenError
from talkgen.losses.lip_sync import CosineBCELoss, ShiftedInfoNCE
from talkgen.losses.mouth_shape import MouthShapeLoss
from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan
from talkgen.systems.latent_sync_expert import LatentSyncExpertSystem, lower_latents


def make_vqgan() -> VQGAN:
    torch.manual_seed(0)
    return build_vqgan(8, (1, 1, 2), 1, latent_channels=8, codes=16, code_dim=8, kmeans_vectors=0)


def make_system(loss: torch.nn.Module | None = None, **changes: Any) -> LatentSyncExpertSystem:
    arguments = {"dim": 8, "width": 16, "blocks": 1, "audio_width": 1 / 16, "grid": (4, 8)}
    expert = LatentSyncNet(**(arguments | changes))
    optimizer = functools.partial(torch.optim.AdamW, lr=3e-3)
    system = LatentSyncExpertSystem(
        expert, make_vqgan(), loss or ShiftedInfoNCE(), optimizer, mouth_shape=MouthShapeLoss(expert.dim)
    )
    system.log = lambda *_, **__: None  # type: ignore[method-assign]
    return system


def make_batch(clips: int, windows: int, seed: int, gap: int = 5) -> dict[str, Any]:
    """Clips in which frame f is loud, and its lower codes are 3, in a random half of the frames."""
    generator = torch.Generator().manual_seed(seed)
    frames = gap * windows + 5
    loud = torch.rand(clips, frames, generator=generator) > 0.5
    codes = torch.randint(16, (clips, 1, 8, 8), generator=generator).repeat(1, frames, 1, 1)
    codes[:, :, 4:] = torch.where(loud, 3, 11)[:, :, None, None]
    mel = torch.where(loud, 2.0, -2.0).repeat_interleave(3, 1)
    first = torch.arange(windows) * gap
    inside = first[:, None] + torch.arange(5)
    steps = 3 * first[:, None] + torch.arange(16)
    return {
        "codes": codes[:, inside].flatten(0, 1),
        "mel": mel[:, steps].flatten(0, 1)[:, None, None].expand(-1, 1, 80, 16),
        "landmarks": torch.rand(clips * windows, 5, 68, 2, generator=generator),
        "clip": [f"clip{c}" for c in range(clips) for _ in range(windows)],
        "frame": first.repeat(clips),
    }


def test_learns_which_sound_belongs_to_the_lips():
    torch.manual_seed(0)
    system = make_system()
    optimizer = system.configure_optimizers()
    for step in range(40):
        loss = system.training_step(make_batch(4, 8, step), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logged: dict[str, float] = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign]
    system.eval()
    with torch.no_grad():
        system.validation_step(make_batch(4, 12, 999), 0)
    system.on_validation_epoch_end()
    assert logged["val/accuracy"] > 0.85
    assert logged["val/accuracy_5"] > 0.85
    assert "val/accuracy_3" not in logged, "no windows of the batch are 3 frames apart"


def test_distances_are_counted_within_clips():
    """Cosines fall with the distance in frames: every comparison in a clip is right; ties count half."""
    system = make_system()
    logged: dict[str, float] = {}
    system.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign]
    batch = make_batch(2, 9, 0, gap=1)
    angle = torch.arange(9.0).repeat(2) * 0.1
    around = torch.stack([angle.cos(), angle.sin()], dim=1)
    none = torch.empty(18, 0, 2)
    system.embed = lambda _: (around, around, none)  # type: ignore[method-assign]
    system.validation_step(batch, 0)
    system.on_validation_epoch_end()
    assert [logged[f"val/accuracy_{distance}"] for distance in (1, 2, 3, 4, 5)] == [1.0] * 5
    assert logged["val/accuracy"] == 1.0
    still = around[:1].expand(18, 2)
    system.embed = lambda _: (still, still, none)  # type: ignore[method-assign]
    system.validation_step(batch, 0)
    system.on_validation_epoch_end()
    assert logged["val/accuracy"] == logged["val/accuracy_1"] == 0.5


def test_lower_latents_are_the_lower_codebooks():
    vqgan = make_vqgan()
    codes = torch.randint(16, (2, 5, 8, 8))
    latent = lower_latents(vqgan, codes)
    assert latent.shape == (2, 5, 8, 4, 8)
    assert torch.equal(latent[1, 2, :, 0, 3], vqgan.quantize.lower.embedding.weight[codes[1, 2, 4, 3]])
    upper = codes.clone()
    upper[:, :, :4] = 0
    assert torch.equal(lower_latents(vqgan, upper), latent)


def test_the_vqgan_is_neither_trained_nor_kept():
    system = make_system()
    trained = {id(p) for group in system.configure_optimizers().param_groups for p in group["params"]}
    assert not trained & {id(p) for p in system.vqgan.parameters()}
    assert id(system.loss.log_temperature) in trained
    assert not [name for name in system.state_dict() if "vqgan" in name]


def test_published_loss_runs_with_its_network():
    system = make_system(CosineBCELoss(), final_relu=True, motion=False)
    assert 0 < float(system.training_step(make_batch(2, 4, 0), 0).detach()) < 10


def test_batches_without_other_moments_are_refused():
    with pytest.raises(TalkgenError, match="windows_per_clip"):
        make_system().training_step(make_batch(4, 1, 0), 0)


def test_an_expert_for_another_vqgan_is_refused():
    with pytest.raises(TalkgenError, match="4 channels"):
        make_system(dim=4)
