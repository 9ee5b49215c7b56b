from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from talkgen import weights
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.store import Store
from talkgen.errors import TalkgenError
from talkgen.preparation import main

QUIET = ["executor=serial", "progress=false"]


class MeanColour(lightning.LightningModule):
    """Learns one number from whatever a batch holds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        return (self.weight - batch["video"].mean() - batch["mel"].mean()).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train_one_step(root: Path) -> float:
    """Give a batch of the store to Lightning; returns the weight that it moved."""
    module = MeanColour()
    trainer = lightning.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, TalkingFaceData(str(root), batch_size=2, workers=0))
    return float(module.weight.detach())


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "clips"), [("hdtf", 6), ("voxceleb2", 6), ("lrw", 10), ("chdtf", 6)])
def test_official_layouts_end_to_end(layout: str, clips: int, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    from talkgen.data.corpora.demo_casting import TINY
    from talkgen.data.corpora.demo_export import export_demo

    for name in ("scrfd_500m", "landmarks_106"):
        if not weights.available(name):
            pytest.skip(f"needs the weights {name}")
    export_demo(tmp_path / "raw", layout, TINY)
    arguments = [f"corpus={layout}", f"source={tmp_path / 'raw'}", f"out={tmp_path / 'out'}"]
    limits = ["settings.size=64", "settings.speech=energy", "settings.detect_every=3"]
    assert main([*arguments, *limits, *QUIET]) == 0
    store = Store.open(tmp_path / "out")
    assert len({clip.raw for clip in store.clips}) == clips
    assert {"train", "test"} <= {clip.split for clip in store.clips}
    assert {clip.corpus for clip in store.clips} == {layout}
    assert all(clip.checks["face_found_ratio"] > 0.9 for clip in store.clips)
    assert train_one_step(tmp_path / "out") != 0


def test_demo_is_rendered_and_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader")
    settings = {"identities": 3, "clips_per_identity": 1, "seconds": 1.2, "size_pixels": 64}
    small = [f"corpus.generate.settings.{name}={value}" for name, value in settings.items()]
    arguments = ["corpus=demo", f"out={tmp_path / 'demo'}", "settings.size=32", *small, *QUIET]
    assert main(arguments) == 0
    assert "kept 6 of 6 clips" in capsys.readouterr().out
    store = Store.open(tmp_path / "demo")
    assert (tmp_path / "demo_raw/videos").is_dir()
    swapped = [clip for clip in store.clips if clip.swap_of]
    assert len(swapped) == 3 and all(store.clip(str(clip.swap_of)) for clip in swapped)
    assert "truth_coefficients" in store.streams
    assert main(arguments) == 0
    assert "already prepared" in capsys.readouterr().out
    with pytest.raises(TalkgenError, match="size: 32 → 48"):
        main([*arguments, "settings.size=48"])


def test_check(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    root = tmp_path / "store"
    shutil.copytree(tiny_store, root)
    assert main(["--check", str(root)]) == 0
    said = capsys.readouterr().out
    assert "6 clips of 6 identities" in said and "splits: train 4, val 1, test 1" in said
    assert "all 7 shards and clips are sound" in said and "a second on one core" in said
    assert (root / "contact_sheet.jpg").stat().st_size > 1000
    shard = next((root / "shards").iterdir())
    content = bytearray(shard.read_bytes())
    content[content.index(b"\xff\xd8") + 200] ^= 1
    shard.write_bytes(content)
    assert main(["--check", str(root)]) == 1
    said = capsys.readouterr().out
    assert f"FAULT {shard}" in said and "FAULT person0/clip" in said and "2 of 7" in said


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TalkgenError, match=r"corpus=chdtf\|demo\|demo_city\|demo_crowd\|folder"):
        main([f"source={tmp_path}"])
    with pytest.raises(TalkgenError, match="source=FOLDER"):
        main(["corpus=lrw"])
    with pytest.raises(TalkgenError, match="usage"):
        main(["--check"])
    with pytest.raises(TalkgenError, match="usage"):
        main(["corpus=lrw", "--check", "x"])


def test_everything_is_written_before_it_fails(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.mp4").write_text("no video")
    arguments = ["corpus=folder", f"source={tmp_path / 'raw'}", f"out={tmp_path / 'out'}", *QUIET]
    with pytest.raises(TalkgenError, match=r"left out \(probe 1\)"):
        main([*arguments, "settings.speech=energy"])
    with (tmp_path / "out/rejects.csv").open() as handle:
        (row,) = csv.DictReader(handle)
    assert row["clip"] == "a" and row["stage"] == "probe"
