"""The ablation of the motion stage: every variant fits the configs; and what is read off motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ablate_disenttalk
import motion_table
import numpy as np
import pytest
from ablation import Ablation

from talkgen.configuration import build, config_folder
from talkgen.face3d.coefficients import EXPRESSION
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS


def composed(experiment: str, overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", overrides=[f"experiment={experiment}", *overrides])


SIZES = {"undivided": (30,), "index": (13, 8, 20), "small": (3, 2, 20), "large": (13, 8, 20)}


@pytest.mark.parametrize("key", ablate_disenttalk.VARIANTS)
def test_every_variant_fits_the_configs(key: str, commands: Any, tmp_path: Path) -> None:
    sizes = SIZES.get(key, (6, 4, 20))
    given = ["size=tiny", "data.root=/store", "speech=mel"]
    folder = Ablation(ablate_disenttalk.method(), tmp_path, "ab", overrides=given).make(key, 0)
    assert folder == tmp_path / "ab" / key / "seed-0"
    own = [one for one in commands.given if one[2].startswith(f"name=ab/{key}/")]
    assert len(own) == (2 + (len(sizes) > 1) if key in ("base", *SIZES) else 1)
    for _, experiment, _, *rest in own:
        stage = experiment.removeprefix("experiment=")
        assert (folder / stage).is_dir() and ("speech=mel" in rest) == (stage != "disenttalk_disentangle")
        cfg = composed(stage, rest)
        if stage == "disenttalk_motion":
            space, denoiser = build(cfg.system.space), build(cfg.system.denoiser)
            assert space.sizes == denoiser.sizes == sizes
            assert bool(cfg.system.weights.sync) == (cfg.system.expert is not None)
        elif stage == "disenttalk_sync_expert":
            assert build(cfg.system.expert).mouth.first.in_features == sizes[0]
    if key not in ("base", *SIZES):  # the rest is base's
        for stage in ("disenttalk_disentangle", "disenttalk_sync_expert"):
            assert (folder / stage).resolve() == tmp_path / "ab" / "base" / "seed-0" / stage


def test_one_table_of_trainings_samples_and_guidance(
    commands: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int, float | None]] = []

    def scores_of(run: Path, seeds: int, limit: int, guidance: float | None) -> dict[str, Any]:
        asked.append((str(run.relative_to(tmp_path / "ab").parent), seeds, limit, guidance))
        level = int(run.parent.name[-1]) + (guidance or 0)
        return {"truth": {"blinks/s": 0.3}, "fitted": {"jerk": 1.0}, "generated": {"lips r": level}}

    monkeypatch.setattr(ablate_disenttalk, "scores_of", scores_of)
    command = [f"--runs={tmp_path}", "--name=ab", "--variants=flat", "--guidance=2", "--trainings=2"]
    assert ablate_disenttalk.main([*command, "--clips=3"]) == 0
    assert asked == [
        ("base/seed-0", 2, 3, None), ("base/seed-1", 2, 3, None), ("base/seed-0", 2, 3, 2.0),
        ("base/seed-1", 2, 3, 2.0), ("flat/seed-0", 2, 3, None), ("flat/seed-1", 2, 3, None),
    ]  # fmt: skip
    (lips,) = [line for line in (tmp_path / "ab/table.md").read_text().splitlines() if "lips r" in line]
    values = [cell.strip() for cell in lines_cells(lips)]
    assert values == ["lips r", "–", "–", "0.500 ± 0.707", "2.500 ± 0.707", "0.500 ± 0.707"]
    assert ablate_disenttalk.main([*command, "--clips=3"]) == 0 and len(asked) == 6
    assert ablate_disenttalk.main([*command, "--clips=4"]) == 0 and len(asked) == 12


def lines_cells(line: str) -> list[str]:
    return line.strip("| ").split(" | ")


def test_blinks_and_lips_are_read_off_coefficients() -> None:
    head = build_head()
    generators = np.zeros((75, 64))
    for first in (10, 40, 60):
        generators[first : first + 3, [GENERATORS.index(n) for n in ("blink_left", "blink_right")]] = 0.8
    generators[:, GENERATORS.index("jaw_open")] = 0.5 + 0.5 * np.sin(np.arange(75) / 3)
    track = np.zeros((75, 257), np.float32)
    track[:, EXPRESSION] = head.generators_to_coefficients(generators)
    face = motion_table.Reader(head)(track)
    assert face.blinks == pytest.approx(1.0)  # three in three seconds
    assert face.shut == pytest.approx(100 * 9 / 75)
    assert motion_table.r(face.opening, np.sin(np.arange(75) / 3)) > 0.95
    assert motion_table.r(face.eyes, -generators[:, GENERATORS.index("blink_left")]) > 0.95
    still = motion_table.Reader(head)(np.tile(track[:1], (75, 1)))
    assert still.jerk < 1e-3 < face.jerk
    a, b, c = np.random.default_rng(0).normal(size=(3, 400))
    # what follows A alone follows B no further than A does
    common = a + b
    assert motion_table.r(a, common) > 0.5
    assert abs(motion_table.partial(a + c, common, a)) < 0.15
    assert motion_table.partial(a + b, b, a) > 0.9
