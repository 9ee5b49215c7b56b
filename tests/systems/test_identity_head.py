from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from talkgen.errors import TalkgenError
from talkgen.losses.identity import IdentityLoss
from talkgen.models.experts.arcface import IdentityNetwork
from talkgen.models.swaptalk.identity_head import LatentIdentityHead
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan
from talkgen.systems.identity_head import Answers, IdentityHeadSystem, Lessons, mix, rank_correlation

DIM, CODES, CELLS = 4, 16, 4


def vqgan() -> VQGAN:
    return build_vqgan(8, (1, 2, 2), 1, latent_channels=8, codes=CODES, code_dim=DIM)


@torch.no_grad()
def recogniser(network: VQGAN) -> nn.Module:
    """A random view of 4 × 4 colours, whose directions differ as pictures differ from the mean picture."""
    body = nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(3 * 16, 32))
    pictures = network.decode_codes(torch.randint(CODES, (64, CELLS, CELLS)))
    features = body[:2](pictures.repeat_interleave(7, 2).repeat_interleave(7, 3))
    body[2].bias.copy_(-body[2].weight @ features.mean(0))
    return body


def build(**arguments: Any) -> IdentityHeadSystem:
    torch.manual_seed(0)
    network = vqgan()
    defaults: dict[str, Any] = {
        "identity_head": LatentIdentityHead(DIM, 16, (1, 2), 1, 2, 32, grid=(CELLS, CELLS)),
        "vqgan": network,
        "identity": IdentityLoss(IdentityNetwork(recogniser(network))),
        "optimizer": partial(torch.optim.AdamW, lr=5e-3),
        "lessons": Lessons(kept=64, batch=16),
    }
    return IdentityHeadSystem(**(defaults | arguments))


def batch(person: int, seed: int) -> dict[str, Any]:
    """Frames of one person: half of the codes are the person's, half are chance."""
    codes = torch.randint(CODES, (CELLS, CELLS), generator=torch.Generator().manual_seed(100 + person))
    generator = torch.Generator().manual_seed(seed)
    chance = torch.randint(CODES, (2, 2, CELLS, CELLS), generator=generator)
    codes = torch.where(torch.rand(chance.shape, generator=generator) < 0.5, chance, codes)
    warp = torch.tensor([[7.0, 0.0, 0.0], [0.0, 7.0, 0.0]]).repeat(2, 2, 1, 1)
    return {"codes": codes, "identity_warp": warp, "identity": torch.tensor([person, person])}


def fit(system: IdentityHeadSystem, steps: int) -> dict[str, float]:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = partial(torch.utils.data.DataLoader, batch_size=None)
    held_out = [batch(person, 1000 + person) for person in (6, 7)]
    trainer.fit(system, loader([batch(i % 6, i) for i in range(steps)]), loader(held_out))
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def test_learns_what_the_recogniser_sees_in_the_decoded_picture() -> None:
    early, late = (fit(build(), steps) for steps in (1, 60))
    assert late["val/cosine"] > max(0.55, early["val/cosine"] + 0.15)
    assert late["train/identity"] < 0.5 * early["train/identity"]
    assert -1 <= late["val/rank_correlation"] <= 1
    assert late["val/gallery"] == 6
    assert "val/same_nearest" in late


def test_only_the_head_is_trained_and_kept() -> None:
    system = build()
    assert {name.split(".")[0] for name, _ in system.named_parameters()} == {"identity_head"}
    assert {key.split(".")[0] for key in system.state_dict()} == {"identity_head"}


def test_latents_of_another_size_are_refused() -> None:
    with pytest.raises(TalkgenError, match="6 channels, the VQGAN has 4"):
        build(identity_head=LatentIdentityHead(6, 8, (1,), 1))


def test_answers_forget_the_oldest_and_travel_in_a_checkpoint() -> None:
    answers = Answers(3)
    for i in range(4):
        answers.add(torch.full((1, 2, 2), i), torch.full((1, 5), float(i)))
    codes, directions = answers.draw(50)
    assert set(codes[:, 0, 0].tolist()) == {1, 2, 3}
    assert (codes[:, 0, 0] == directions[:, 0]).all()
    other = Answers(3)
    other.restore(answers.state())
    assert other.codes.equal(answers.codes) and other.directions.equal(answers.directions)


def test_checkpoint_brings_back_answers_and_gallery() -> None:
    system = build()
    fit(system, 3)
    checkpoint: dict[str, Any] = {}
    system.on_save_checkpoint(checkpoint)
    other = build()
    other.on_load_checkpoint(checkpoint)
    assert other.gallery.keys() == {0, 1, 2}
    assert other.remembered.codes.equal(system.remembered.codes)


def test_mixed_codes_hold_a_rectangle_of_the_next_person() -> None:
    torch.manual_seed(0)
    codes = torch.arange(200)[:, None, None].expand(200, 6, 5).contiguous()
    mixed = mix(codes)
    foreign = mixed != codes
    assert (mixed[foreign] == codes.roll(1, 0)[foreign]).all()
    rows, columns = foreign.any(2), foreign.any(1)
    assert (foreign == rows[:, :, None] & columns[:, None, :]).all()
    share = foreign.float().mean()
    assert 0.05 < share < 0.2  # a third of the height and a third of the width, on average
    assert foreign[:, 0].any() and foreign[:, -1].any()


def test_rank_correlation_by_hand() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    b = torch.tensor([[10.0, 20.0, 99.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    torch.testing.assert_close(rank_correlation(a, b), torch.tensor([1.0, -1.0, 0.5]))


def test_nonsense_is_refused() -> None:
    for wrong in ({"kept": -1}, {"batch": 0}, {"mixed": 1.5}, {"noise": -0.1}):
        with pytest.raises(ValueError, match="no lessons"):
            Lessons(**wrong)
