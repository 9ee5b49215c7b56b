"""A motion run that is taken up in the middle ends where the run ended that was never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from talkgen.cli import main
from talkgen.configuration import RunFolder


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_by_bit(tiny_store: Path, tmp_path: Path) -> None:
    common = ["size=tiny", f"data.root={tiny_store}", f"paths.runs={tmp_path}", "logger=csv"]
    folder = tmp_path / "disentangled"
    assert main(["disentangle", f"root={tiny_store}", f"out={folder}"]) == 0

    def train(name: str) -> RunFolder:
        settings = [
            "experiment=disenttalk_motion", f"name={name}", f"disentangled={folder}", "system.weights.sync=0",
            "system.expert=null", "steps=6", "validate_every=3", "checkpoint_every=3",
            "callbacks.checkpoints.keep_every=3",
        ]  # fmt: skip
        assert main(["train", *settings, *common]) == 0
        return RunFolder(tmp_path / name)

    whole = train("whole")
    half = RunFolder(tmp_path / "half")
    half.checkpoints.mkdir(parents=True)
    shutil.copy(whole.config, half.config)
    shutil.copy(whole.checkpoints / "step-0000003.ckpt", half.last)
    text = half.config.read_text().replace(str(whole.path), str(half.path))
    half.config.write_text(text)
    train("half")
    ends = [torch.load(run.last, weights_only=True) for run in (whole, half)]
    for part in ("state_dict", "ema"):
        assert ends[0][part].keys() == ends[1][part].keys()
        for key, value in ends[0][part].items():
            torch.testing.assert_close(ends[1][part][key], value, rtol=0, atol=0, msg=key)
    start = torch.load(whole.checkpoints / "step-0000003.ckpt", weights_only=True)["ema"]
    assert any(not torch.equal(value, ends[0]["ema"][key]) for key, value in start.items())
