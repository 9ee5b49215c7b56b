"""The ablation of the motion stage: every variant fits the configs; and what is read off motion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkgen.configuration import build, config_folder
from talkgen.face3d.coefficients import EXPRESSION
from talkgen.face3d.head import build_head
from talkgen.face3d.head_motion import GENERATORS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import ablate_disenttalk
import motion_table


def composed(experiment: str, overrides: list[str]) -> Any:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", overrides=[f"experiment={experiment}", *overrides])


@pytest.mark.parametrize("key", ablate_disenttalk.VARIANTS)
def test_every_variant_fits_the_configs(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(
        ablate_disenttalk, "train", lambda experiment, name, rest: commands.append((experiment, name, rest))
    )
    run = ablate_disenttalk.train_variant("abl", key, Path("/runs"), ["size=tiny", "data.root=/store"])
    assert run == Path(f"/runs/abl/{key}/disenttalk_motion")
    variant = ablate_disenttalk.VARIANTS[key]
    assert commands[-1][0] == "disenttalk_motion" and commands[-1][1] == f"abl/{key}/disenttalk_motion"
    own = [name for _, name, _ in commands]
    assert all(name.startswith(f"abl/{key}/") for name in own)
    assert len(own) == 1 if variant.rule is None else len(own) == 2 + (len(variant.sizes) > 1)
    for experiment, _, rest in commands:
        cfg = composed(experiment, list(rest))
        if experiment == "disenttalk_motion":
            space, denoiser = build(cfg.system.space), build(cfg.system.denoiser)
            assert space.sizes == denoiser.sizes == tuple(variant.sizes)
            assert bool(cfg.system.weights.sync) == (cfg.system.expert is not None)
        elif experiment == "disenttalk_sync_expert":
            assert build(cfg.system.expert).mouth.first.in_features == variant.sizes[0]


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
