"""SwapTalk's ablation: what is trained, what is shared, and what the table says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ablate_swaptalk
import ablation
import pytest

from talkgen import weights

ROWS = ("swap, then sync", "sync, then swap", "swap, then sync, in RGB", "sync, then swap, in RGB")


@pytest.fixture(autouse=True)
def _table(commands: Any) -> None:
    commands.columns = {"r": True, "x": None}
    commands.rows = lambda seed: {
        name: {"r": 0.5 + 0.1 * seed + place, "x": None} for place, name in enumerate(ROWS)
    }


def run(tmp_path: Path, variants: str, seeds: int, *more: str) -> int:
    return ablate_swaptalk.main(
        [f"--variants={variants}", f"--seeds={seeds}", f"--runs={tmp_path}", "--name=ab", *more]
    )


def test_only_what_a_variant_changes_is_trained(commands: Any, tmp_path: Path) -> None:
    assert run(tmp_path, "base,sync_swap,unet,one_codebook", 2) == 0
    every = ["vqgan", "sync_expert", "identity_head", "face_swap", "lip_sync"]
    assert commands.trained("swaptalk_") == [
        *(f"base/seed-0/{stage}" for stage in every),
        "base/seed-1/face_swap",
        "base/seed-1/lip_sync",
        "unet/seed-0/face_swap",
        "unet/seed-1/face_swap",
        *(f"one_codebook/seed-0/{stage}" for stage in every),
        "one_codebook/seed-1/face_swap",
        "one_codebook/seed-1/lip_sync",
    ]

    def source(run: str, stage: str) -> str:
        place = tmp_path / "ab" / run / f"swaptalk_{stage}"
        return str(place.resolve().relative_to(tmp_path / "ab")).replace("swaptalk_", "")

    assert source("unet/seed-1", "lip_sync") == "base/seed-1/lip_sync"
    assert source("unet/seed-1", "vqgan") == "base/seed-0/vqgan"
    assert source("one_codebook/seed-1", "sync_expert") == "one_codebook/seed-0/sync_expert"
    for given in commands.given:
        if given[0] == "train" and "unet/" in given[2]:
            assert "face_swap=unet" in given and "experiment=swaptalk_face_swap" in given
    assert commands.scored() == 6  # another order is another row


def test_mean_and_spread(commands: Any, tmp_path: Path) -> None:
    run(tmp_path, "base,sync_swap", 3)
    table = (tmp_path / "ab" / "table.md").read_text()
    assert "0.600 ± 0.100" in table and "1.600 ± 0.100" in table  # 0.5, 0.6, 0.7, and the next row
    rows = (tmp_path / "ab" / "table.csv").read_text().splitlines()
    assert rows[0] == "variant,seeds,r ↑,r ↑ std,x,x std"
    assert rows[1].startswith("as the size says,3,0.6,0.09999") and rows[1].endswith(",,")


def test_a_trained_method_is_the_base(
    commands: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "base", 1, f"--base={tmp_path / 'none'}") == 1
    assert "is not trained" in capsys.readouterr().err
    for stage in ablate_swaptalk.STAGES:
        commands("train", f"name=ready/{stage}")
    commands.given.clear()
    assert run(tmp_path, "base,no_expert", 1, f"--base={tmp_path / 'ready'}") == 0
    assert commands.trained("swaptalk_") == ["no_expert/seed-0/lip_sync"]
    (folder,) = [tmp_path / "ab" / "no_expert" / "seed-0" / "swaptalk_face_swap"]
    assert folder.resolve() == tmp_path / "ready" / "swaptalk_face_swap"


def test_overrides_reach_their_stages(commands: Any, tmp_path: Path) -> None:
    run(tmp_path, "base", 1, "size=tiny", "swaptalk_vqgan:steps=7", "--evaluate", "clips=2")
    for given in commands.given:
        assert ("size=tiny" in given) == (given[0] == "train")
        assert ("steps=7" in given) == ("experiment=swaptalk_vqgan" in given)
        assert ("clips=2" in given) == (given[0] == "evaluate")
    with pytest.raises(SystemExit):
        run(tmp_path, "bass", 1)


def test_options_train_the_lips_alone(commands: Any, tmp_path: Path) -> None:
    for stage in ablate_swaptalk.STAGES:
        commands("train", f"name=ready/{stage}")
    commands.given.clear()
    assert run(tmp_path, "options", 1, f"--base={tmp_path / 'ready'}") == 0
    trained = [name for name in ablate_swaptalk.OPTIONS if name != "snap"]
    assert commands.trained("swaptalk_") == [f"{name}/seed-0/lip_sync" for name in trained]
    snapped = [given for given in commands.given if "snap=true" in given]
    assert [given[:2] for given in snapped] == [("evaluate", "run=ab/snap/seed-0")]


@pytest.mark.slow
def test_two_variants_for_real(tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real commands, in this process to save starting seven."""
    if not weights.available("arcface_mbf"):
        pytest.skip("the identity head is distilled from arcface_mbf, which is not here")
    from talkgen.cli import main

    def here(*arguments: str) -> None:
        assert main(list(arguments)) == 0, arguments

    def names(folder: Path) -> Sequence[str]:
        return [row["name"] for row in json.loads((folder / "evaluation/table.json").read_text())["rows"]]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ablation, "talkgen", here)
    settings = ["size=tiny", f"data.root={tiny_store}", "logger=csv", "swaptalk_face_swap:system.judge=null"]
    scoring = ["--evaluate", "device=cpu", "clips=1", "frames=10", f"root={tiny_store}"]
    assert run(tmp_path / "runs", "base,swapped", 1, *settings, *scoring) == 0
    assert "swap, then sync" in names(tmp_path / "runs/ab/swapped/seed-0")
    text = (tmp_path / "runs/ab/table.md").read_text()
    assert "lips trained on swaps too" in text and "PSNR[rgb]" in text
