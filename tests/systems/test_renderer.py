"""The renderer's training: two phases, both directions, and that it learns to move a picture."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer

from talkgen.errors import TalkgenError
from talkgen.losses.perceptual import GradientPyramidLoss
from talkgen.losses.weights import RendererWeights
from talkgen.models.pirender.pirenderer import PIRenderer
from talkgen.systems.renderer import Pairs, RendererSystem

TINY = {
    "descriptor": 16, "warp_channels": 8, "warp_most_channels": 16, "warp_down": 2, "warp_up": 1,
    "edit_channels": 8, "edit_most_channels": 16, "edit_layers": 1, "edit_blocks": 1, "patch": 2,
    "fix_res_block": True, "align_corners": True, "standardise": True, "residual": True, "relative": True,
    "coarse_flow": 4,
}  # fmt: skip


def build(**arguments: Any) -> RendererSystem:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "renderer": PIRenderer(**TINY),
        "weights": RendererWeights(warp=0.2, final=0.2, l1=1.0, mouth=0.5, eyes=0.5, points=1.0),
        "optimizer": partial(torch.optim.Adam, lr=4e-3, betas=(0.5, 0.999)),
        "warp_perceptual": GradientPyramidLoss(),
        "perceptual": GradientPyramidLoss(),
        "warp_batches": 15,
        "gradient_clip": 1.0,
    }
    return RendererSystem(**(defaults | arguments))


def batch(seed: int, size: int = 32) -> dict[str, Any]:
    """A bright blob on a ground of each pair's own colour; coefficient 224 says where it is in x."""
    random = np.random.default_rng(seed)
    x, ground = random.uniform(8, 24, (4, 2)), random.uniform(-0.8, 0, (4, 1, 3, 1, 1))
    across = np.arange(size)[None, None] - x[..., None]
    down = np.arange(size)[:, None] - size / 2
    blob = np.exp(-(across[:, :, None] ** 2 + down**2) / 20)[:, :, None]
    coefficients = np.zeros((4, 2, 27, 257))
    coefficients[..., 224] = x[..., None] * 0.01
    landmarks = np.repeat(np.stack([x, np.full_like(x, size / 2)], -1)[:, :, None], 68, 2)
    landmarks[:, :, ::2] += 3
    return {
        "video": torch.from_numpy(ground * (1 - blob) + blob).float(),
        "coefficients": torch.from_numpy(coefficients).float(),
        "landmarks": torch.from_numpy(landmarks).float(),
    }


class Blobs(LightningDataModule):
    """So many training batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches
        self.data = self  # as the wrapped data of a run

    def sampled_coefficients(self) -> np.ndarray:
        frames = [batch(seed)["coefficients"][:, :, 0].flatten(0, 1) for seed in range(20)]
        return torch.cat(frames).numpy()

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([batch(seed) for seed in range(self.batches)], batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([batch(1000), batch(1001)], batch_size=None)  # type: ignore[arg-type]


def fit(system: RendererSystem, batches: int) -> Trainer:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(system, datamodule=Blobs(batches))
    return trainer


@pytest.fixture(scope="module")
def trained() -> tuple[RendererSystem, Trainer]:
    system = build()
    return system, fit(system, 60)


def test_it_learns_to_move_what_it_never_saw(trained):
    values = trained[1].callback_metrics
    assert values["val/psnr"] > values["val/psnr_copy"] + 8
    assert values["val/mouth_l1"] < 0.3 * values["val/mouth_l1_copy"]
    assert values["val/points"] < 0.3 * values["val/points_copy"]
    assert set(values) >= {
        "train/warp",
        "train/final",
        "train/l1",
        "train/l1_warp",
        "train/mouth",
        "train/points",
        "train/eyes",
    }


def test_the_scale_of_coefficients_is_learned(trained):
    renderer = trained[0].renderer
    assert float(renderer.coefficient_mean[64]) == pytest.approx(0.16, abs=0.02)
    assert float(renderer.coefficient_deviation[64]) == pytest.approx(0.16 / np.sqrt(12), abs=0.01)
    assert (renderer.coefficient_deviation[70:] == 1).all()


def test_sample_is_the_pictures_of_the_frames(trained):
    system = trained[0]
    one = batch(7)
    coefficients = np.repeat(one["coefficients"][0, 1, :1].numpy(), 30, 0)
    made = system.sample(one["video"][0, 0], one["coefficients"][0, 0, 13].numpy(), coefficients)
    assert made.shape == (4, 3, 32, 32)
    assert (made[0] - one["video"][0, 1]).abs().mean() < (
        one["video"][0, 0] - one["video"][0, 1]
    ).abs().mean()


def test_both_directions_of_a_pair():
    one = batch(0)
    pairs = Pairs.of(one)
    assert torch.equal(pairs.source[:4], one["video"][:, 0]) and torch.equal(
        pairs.target[:4], one["video"][:, 1]
    )
    assert torch.equal(pairs.source[4:], pairs.target[:4]) and torch.equal(pairs.target[4:], pairs.source[:4])
    assert torch.equal(pairs.motion[:4, 0, 64], one["coefficients"][:, 1, 0, 224])
    assert torch.equal(pairs.landmarks[4:], one["landmarks"][:, 0])
    assert pairs.motion.shape == (8, 27, 73)


def test_the_editing_net_waits_for_the_second_phase():
    system = build(warp_batches=3)
    edit = {name: value.clone() for name, value in system.renderer.editing_net.named_parameters()}
    fit(system, 3)
    assert all(
        torch.equal(edit[name], value) for name, value in system.renderer.editing_net.named_parameters()
    )
    system = build(warp_batches=2)
    trainer = fit(system, 3)
    assert any(
        not torch.equal(edit[name], value) for name, value in system.renderer.editing_net.named_parameters()
    )
    steps = {int(state["step"]) for state in trainer.optimizers[0].state.values()}
    assert steps == {1}  # the optimiser forgot the two before


def test_landmarks_need_aligned_corners():
    with pytest.raises(TalkgenError, match="align_corners=true"):
        build(renderer=PIRenderer(**TINY | {"align_corners": False}))


def test_no_term_is_an_error():
    system = build(weights=RendererWeights(warp=0, final=0))
    with pytest.raises(ValueError, match="weight 0"):
        system.training_step(batch(0), 0)
