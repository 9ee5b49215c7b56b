"""Diff2Lip's sweeps: what is trained, with which settings, and what the tables say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from talkgen.configuration import config_folder
from talkgen.errors import TalkgenError

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture()
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("ablate_diff2lip")


class Commands:
    """In place of talkgen: leaves behind what training or evaluation does, and keeps what it was told."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.given: list[tuple[str, ...]] = []

    def __call__(self, command: str, *arguments: str) -> None:
        self.given.append((command, *arguments))
        values = dict(argument.split("=", 1) for argument in arguments)
        if command == "train":
            file = self.runs / values["name"] / "checkpoints" / "last.ckpt"
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():  # a finished run is left as it is
                file.touch()
            return
        out = self.runs / values["run"] / "evaluation"
        out.mkdir(exist_ok=True)
        r = 0.5 + 0.1 * int(values["run"][-1])
        names = {
            "ground truth": 1.0,
            "lip-sync in 8 steps": r,
            "lip-sync in 8 steps, another clip's sound": 0.1,
        }
        rows = [
            {"name": name, "cells": {"mouth opening r": {"value": value}, "PSNR": {"value": None}}}
            for name, value in names.items()
        ]
        (out / "table.json").write_text(json.dumps({"rows": rows}))


@pytest.fixture()
def commands(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands(tmp_path)
    monkeypatch.setattr(script, "talkgen", made)
    return made


def run(script: ModuleType, tmp_path: Path, sweeps: str, seeds: int, *more: str) -> int:
    return int(
        script.main([f"--sweeps={sweeps}", f"--seeds={seeds}", f"--runs={tmp_path}", "--name=ab", *more])
    )


def test_a_sweep_shares_one_expert(script: ModuleType, commands: Commands, tmp_path: Path) -> None:
    assert run(script, tmp_path, "losses", 2, "size=tiny") == 0
    trained = [given[2].removeprefix("name=ab/") for given in commands.given if given[0] == "train"]
    variants = ["reconstruction", "with_sync", "with_lpips", "with_gan"]
    assert trained == [
        "sync_expert", *(f"{v}/seed-{s}/diff2lip_diffusion" for v in variants for s in (0, 1))
    ]  # fmt: skip
    for variant in variants:
        place = tmp_path / "ab" / variant / "seed-1" / "sync_expert"
        assert place.resolve() == (tmp_path / "ab" / "sync_expert").resolve()
    assert all("size=tiny" in given for given in commands.given if given[0] == "train")
    table = (tmp_path / "ab" / "losses.md").read_text()
    assert "reconstruction only" in table and "0.550 ± 0.071" in table
    wrong = next(line for line in table.splitlines() if line.startswith("| mouth opening r, another clip's"))
    assert "0.100 ± 0.000" in wrong
    scored = sum(given[0] == "evaluate" for given in commands.given)
    assert run(script, tmp_path, "losses", 2, "size=tiny") == 0
    assert sum(given[0] == "evaluate" for given in commands.given) == scored  # tables are newer than runs


def test_the_expert_of_a_trained_method_is_taken(
    script: ModuleType, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "method"
    assert run(script, tmp_path, "min_snr", 1, f"--base={base}") == 1
    assert "is not trained" in capsys.readouterr().err
    (base / "sync_expert" / "checkpoints").mkdir(parents=True)
    (base / "sync_expert" / "checkpoints" / "last.ckpt").touch()
    assert run(script, tmp_path, "min_snr", 1, f"--base={base}") == 0
    assert not any("experiment=sync_expert" in given for given in commands.given)


def test_every_sweep_is_made_of_variants_and_every_variant_composes(script: ModuleType) -> None:
    """No override names a key that the config lacks; Hydra would refuse it in the middle of a sweep."""
    swept = {variant for variants in script.SWEEPS.values() for variant in variants}
    assert swept == set(script.VARIANTS) - {"base"}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        overrides = [*script.VARIANTS["voice_noisy"].overrides, *script.VARIANTS["predict_noise"].overrides]
        cfg = compose("train", overrides=["experiment=diff2lip_diffusion", *overrides])
    assert cfg.system.augmentation.noise == 0.5
    assert cfg.system.loss.diffusion.prediction == "noise"
    for name in swept:
        for override in script.VARIANTS[name].overrides:
            parent, _, key = override.split("=", 1)[0].rpartition(".")
            assert key in OmegaConf.select(cfg, parent), override


def test_mistakes(script: ModuleType, commands: Commands, tmp_path: Path) -> None:
    for arguments in (["--sweeps=colour"], ["--seeds=0"]):
        with pytest.raises(SystemExit):
            script.main(arguments)
    with pytest.raises(TalkgenError):
        script.Ablation(tmp_path, "ab", tmp_path).train("base", 0, tmp_path / "nowhere")
