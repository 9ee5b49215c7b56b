"""What fits on a card: the arithmetic, and the bytes of a step that is played through without contents."""

from __future__ import annotations

import pytest
import torch

from talkgen import doctor, memory_recipes
from talkgen.errors import TalkgenError
from talkgen.memory_recipes import Footprint, advice, footprints, recipe, table

GB = 10**9
STAGE = Footprint(
    batch=8, group=1, contrastive=False, fixed=4 * GB, sample=3 * GB, spare_fixed=4 * GB, spare_sample=GB
)


@pytest.mark.parametrize(
    ("card", "batch", "accumulate", "checkpointing"),
    [
        (80, 8, 1, False),  # 28 GB
        (24, 8, 1, True),  # 12 GB of 20.8
        (12, 4, 2, True),  # 12 GB are more than 10; 4 + 3·4 = 16, too; 8 GB with recomputing
        (8, 2, 4, True),  # 6 of 6.4; 4 + 3·2 = 10
    ],
)
def test_what_is_fastest_of_what_fits(card, batch, accumulate, checkpointing):
    found = recipe(STAGE, card * GB)
    assert (found.batch, found.accumulate, found.checkpointing) == (batch, accumulate, checkpointing)
    assert found.peak <= 0.9 * card * GB - memory_recipes.RESERVE
    assert found.batch * found.accumulate == STAGE.batch


def test_nothing_fits():
    assert recipe(STAGE, 4 * GB) is None
    assert "not one sample" in advice("stage", 4 * GB, {"stage": STAGE})[0]


def test_groups_of_windows_stay_together():
    grouped = Footprint(batch=24, group=8, contrastive=True, fixed=0, sample=GB)
    found = recipe(grouped, 20 * GB)  # 17.2 to fill: 12 would cut a group
    assert (found.batch, found.accumulate) == (8, 3)
    assert "slower" in advice("expert", 20 * GB, {"expert": grouped})[-1]


def test_every_stage_has_a_footprint_and_a_row():
    from talkgen.configuration import options
    from talkgen.rehearsal import stage_config

    known = footprints()
    for name in options("experiment"):
        try:
            cfg = stage_config(name, ["size=paper"])
        except TalkgenError:
            continue
        if name != "evaluation_sync_expert":  # a second sync_expert
            assert known[name].batch == cfg.data.batch_size, f"{name}: measure its footprint again"
            assert known[name].sample > 0
            assert known[name].fixed > 0
    assert len(table(known)) == len(known) + 2


def test_bytes_of_a_step_are_those_of_its_tensors():
    """A network of one layer whose bytes can be counted by hand."""
    from talkgen.rehearsal import stage_config, stage_system

    overrides = ["size=tiny", "speech=mel"]
    cfg = stage_config("disenttalk_motion", overrides)
    system = stage_system(cfg, overrides)
    weights = sum(p.numel() * 4 for p in system.parameters() if p.requires_grad)
    low, high = memory_recipes.step_bytes(system, cfg, (2, 4))
    # weights, gradients, two averages of Adam, one of EMA, and what is computed
    assert low > 5 * weights
    sound = 2 * cfg.system.denoiser.audio_dim * 16 * 4  # two more windows of the batch, at least
    assert high - low > sound
    assert high < 2 * low


def test_doctor_says_which_recipe_fits(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.main(["--experiment", "swaptalk_vqgan"]) == 0
    said = capsys.readouterr().out
    assert "there is no GPU here" in said
    assert "80 GB" in said

    class Card:
        total_memory = 24 * GB

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Card)
    assert doctor.main(["--experiment", "swaptalk"]) == 0  # a method: all of its stages
    said = capsys.readouterr().out
    assert said.count("python train.py experiment=swaptalk_") == 5
    assert "precision=bf16-mixed" in said
    with pytest.raises(TalkgenError, match="stages are"):
        doctor.main(["--experiment", "nothing"])
