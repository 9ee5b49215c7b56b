"""Diff2Lip's sweeps: what is trained, with which settings, and what the tables say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ablate_diff2lip
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from talkgen.configuration import config_folder


@pytest.fixture(autouse=True)
def _table(commands: Any) -> None:
    commands.columns = {"mouth opening r": True, "PSNR": True}
    commands.rows = lambda seed: {
        "ground truth": {"mouth opening r": 1.0, "PSNR": None},
        "lip-sync in 8 steps": {"mouth opening r": 0.5 + 0.1 * seed, "PSNR": None},
        "lip-sync in 8 steps, another clip's sound": {"mouth opening r": 0.1, "PSNR": None},
    }


def run(tmp_path: Path, sweeps: str, seeds: int, *more: str) -> int:
    return ablate_diff2lip.main(
        [f"--sweeps={sweeps}", f"--seeds={seeds}", f"--runs={tmp_path}", "--name=ab", *more]
    )


def test_a_sweep_shares_one_expert(commands: Any, tmp_path: Path) -> None:
    assert run(tmp_path, "losses", 2, "size=tiny") == 0
    variants = ["reconstruction", "with_sync", "with_lpips", "with_gan"]
    assert commands.trained() == [
        "base/seed-0/sync_expert", *(f"{v}/seed-{s}/diff2lip_diffusion" for v in variants for s in (0, 1))
    ]  # fmt: skip
    for variant in variants:
        place = tmp_path / "ab" / variant / "seed-1" / "sync_expert"
        assert place.resolve() == (tmp_path / "ab" / "base" / "seed-0" / "sync_expert").resolve()
    assert all("size=tiny" in given for given in commands.given if given[0] == "train")
    begin = "size.diff2lip_diffusion.adversarial_start=0"  # where the size ends before it begins
    trained_with = [given for given in commands.given if begin in given]
    assert {word for given in trained_with for word in given if word.startswith("name=")} == {
        f"name=ab/with_gan/seed-{seed}/diff2lip_diffusion" for seed in (0, 1)
    }
    table = (tmp_path / "ab" / "losses.md").read_text()
    assert "reconstruction only" in table and "0.550 ± 0.071" in table
    wrong = next(line for line in table.splitlines() if line.startswith("| mouth opening r, another clip's"))
    assert "0.100 ± 0.000" in wrong


def test_the_expert_of_a_trained_method_is_taken(
    commands: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "method"
    assert run(tmp_path, "min_snr", 1, f"--base={base}") == 1
    assert "is not trained" in capsys.readouterr().err
    (base / "sync_expert" / "checkpoints").mkdir(parents=True)
    (base / "sync_expert" / "checkpoints" / "last.ckpt").touch()
    assert run(tmp_path, "min_snr", 1, f"--base={base}") == 0
    assert not any("experiment=sync_expert" in given for given in commands.given)


def changes(variant: str) -> list[str]:
    (stage,) = ablate_diff2lip.VARIANTS[variant].overrides
    assert stage == "diff2lip_diffusion"
    return list(ablate_diff2lip.VARIANTS[variant].overrides[stage])


def test_every_sweep_is_made_of_variants_and_every_variant_composes() -> None:
    """No override names a key that the config lacks; Hydra would refuse it in the middle of a sweep."""
    swept = {variant for variants in ablate_diff2lip.SWEEPS.values() for variant in variants}
    assert swept == set(ablate_diff2lip.VARIANTS) - {"base"}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        overrides = [*changes("voice_noisy"), *changes("predict_noise")]
        cfg = compose("train", overrides=["experiment=diff2lip_diffusion", *overrides])
    assert cfg.system.augmentation.noise == 0.5
    assert cfg.system.loss.diffusion.prediction == "noise"
    for name in swept:
        for override in changes(name):
            parent, _, key = override.split("=", 1)[0].rpartition(".")
            assert key in OmegaConf.select(cfg, parent), override


def test_mistakes(commands: Any, tmp_path: Path) -> None:
    for arguments in (["--sweeps=colour"], ["--seeds=0"]):
        with pytest.raises(SystemExit):
            ablate_diff2lip.main(arguments)
