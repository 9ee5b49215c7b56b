"""The loader beside other processes, and in Lightning's hands without a data module of ours around it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.distributed as dist

from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.dataset import ClipWindows
from talkgen.data.loader import WindowLoader
from talkgen.data.sampler import EpochSampler
from talkgen.data.store import Store
from talkgen.errors import TalkgenError


def _train(folder: Path, rank: int) -> None:
    """A process of a training: batches, and a sum over processes after each."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    dataset = TalkingFaceData(str(folder / f"store{rank}"), batch_size=4).dataset("train")
    loader = WindowLoader(dataset, EpochSampler(len(dataset), 4, rank=rank, world=2), max_bad_fraction=0.02)
    batches = 0
    try:
        for epoch in range(20):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                dist.all_reduce(batch["video"].mean())
                batches += 1
    except TalkgenError as error:
        print(f"{batches}: {error}")
    dist.destroy_process_group()


def test_too_many_bad_samples_stop_every_process(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    """Only the second process reads a damaged file; both stop after the same batch, with the same words."""
    for rank in range(2):
        store = make_store(tmp_path / f"store{rank}", [40] * 8, shard_bytes=1000)
    file = tmp_path / "store1" / store.clips[2].shard
    file.write_bytes(bytes(file.stat().st_size))
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(rank)], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert first == second
    assert "samples could not be read" in first and "00002.tar" in first
    assert 0 < int(first.partition(":")[0]) < 20 * 6


class Decoder:
    """Waits forever for its threads where it is closed in another process; here it says where that was."""

    def __init__(self, said: Path) -> None:
        self.said, self.circle = said, self

    def __del__(self) -> None:
        with self.said.open("a") as stream:
            stream.write(f"{os.getpid()}\n")


class Collecting(ClipWindows):
    """Windows whose reading has the garbage collected."""

    def __getitem__(self, item: int) -> dict[str, Any]:
        gc.collect()
        return super().__getitem__(item)


def test_workers_leave_the_garbage_of_the_main_process_alone(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    make_store(tmp_path / "store", [40] * 2)
    dataset = TalkingFaceData(str(tmp_path / "store"), batch_size=2).dataset("train")
    dataset.__class__ = Collecting
    loader = WindowLoader(dataset, EpochSampler(len(dataset), 2), workers=1)
    gc.collect()
    gc.disable()
    try:
        Decoder(tmp_path / "said")  # garbage from here on, and not collected yet
        assert next(iter(loader))["video"].shape[0] == 2
        assert not (tmp_path / "said").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "said").read_text() == f"{os.getpid()}\n"


class Counter(lightning.LightningModule):
    """Counts what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        self.samples += len(batch["video"])


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_lightning_takes_a_bare_data_module(
    stage: str, tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    make_store(tmp_path, [40] * 8)
    data = TalkingFaceData(str(tmp_path), batch_size=3, workers=0)
    if stage == "validate":
        data.val_dataloader = data.test_dataloader  # type: ignore[method-assign]
    module = Counter()
    module.test_step = module.validation_step  # type: ignore[method-assign]
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    getattr(trainer, stage)(module, datamodule=data, verbose=False)
    assert module.samples == len(data.dataset("test"))


if __name__ == "__main__":
    _train(Path(sys.argv[1]), int(sys.argv[2]))
