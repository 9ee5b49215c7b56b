from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.loader import WindowLoader
from talkgen.data.sampler import EpochSampler
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings
from talkgen.errors import TalkgenError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Store]) -> str:
    folder = tmp_path_factory.mktemp("store")
    make_store(folder, [30, 41, 20, 55, 33, 60, 30])
    return str(folder)


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 12, 25, 36])
def test_training_order_covers_everything_once_on_all_ranks(world: int, length: int) -> None:
    ranks = [
        EpochSampler(length, 4, seed=1, rank=rank, world=world).batches(epoch=2) for rank in range(world)
    ]
    counts = {len(batches) for batches in ranks}
    assert counts == {len(EpochSampler(length, 4, world=world))}
    assert all(len(batch) == 4 for batches in ranks for batch in batches)
    seen = [index for batches in ranks for batch in batches for epoch, index in batch if epoch == 2]
    assert set(seen) == set(range(length))
    assert len(seen) - length < 4 * world  # repeats fill up the last batch only
    dropped = [
        EpochSampler(length, 4, 1, drop_last=True, rank=r, world=world).batches(2) for r in range(world)
    ]
    kept = [index for batches in dropped for batch in batches for _, index in batch]
    assert len(set(kept)) == len(kept) == length // (4 * world) * 4 * world


def test_order_changes_with_epoch_and_seed_but_not_with_the_number_of_ranks() -> None:
    alone = EpochSampler(48, 8, seed=4)
    assert list(alone.batches(0)) == list(alone.batches(0))
    assert list(alone.batches(0)) != [[(0, index) for _, index in batch] for batch in alone.batches(1)]
    assert list(alone.batches(0)) != list(EpochSampler(48, 8, seed=5).batches(0))
    pair = [EpochSampler(48, 4, seed=4, rank=rank, world=2).batches(0) for rank in range(2)]
    assert [left + right for left, right in zip(*pair, strict=True)] == list(alone.batches(0))
    assert list(alone.batches(3, taken=16)) == alone.batches(3)[2:]


def test_evaluation_order_is_plain_and_alike_in_every_epoch() -> None:
    sampler = EpochSampler(10, 4, shuffle=False)
    assert list(sampler.batches(7)) == [
        [(0, 0), (0, 1), (0, 2), (0, 3)],
        [(0, 4), (0, 5), (0, 6), (0, 7)],
        [(0, 8), (0, 9)],
    ]
    pair = [EpochSampler(11, 4, shuffle=False, rank=rank, world=2).batches(0) for rank in range(2)]
    assert [len(batch) for batch in pair[0]] == [len(batch) for batch in pair[1]]
    assert {index for batches in pair for batch in batches for _, index in batch} == set(range(11))


@pytest.mark.parametrize("world", [1, 2])
def test_groups_are_windows_of_one_clip(world: int) -> None:
    clips = np.array([2, 0, 0, 1, 1, 1, 1, 1, 0, 1])  # one window, three, six
    samplers = [EpochSampler(10, 4, 3, rank=r, world=world, group=2, clips=clips) for r in range(world)]
    epochs = [[sampler.batches(epoch) for sampler in samplers] for epoch in range(30)]
    pairs = []
    for epoch, ranks in enumerate(epochs):
        assert {len(batches) for batches in ranks} == {len(samplers[0])} == {-(-12 // (4 * world))}
        order = [index for batches in ranks for batch in batches for _, index in batch]
        assert all(key == epoch for batches in ranks for batch in batches for key, _ in batch)
        groups = np.array(order).reshape(-1, 2)
        assert (clips[groups[:, 0]] == clips[groups[:, 1]]).all()
        assert set(order) == set(range(10))  # 1 + 2 + 3 groups: the lone window and one of three are repeated
        pairs.append({tuple(sorted(group)) for group in groups.tolist() if clips[group[0]] == 1})
    assert len(set(map(frozenset, pairs))) > 5  # the groups themselves change


def test_groups_do_not_depend_on_the_number_of_ranks_and_can_be_taken_up() -> None:
    clips = np.repeat([0, 1, 2], [9, 12, 15])
    alone = EpochSampler(36, 12, seed=4, group=3, clips=clips)
    pair = [EpochSampler(36, 6, seed=4, rank=rank, world=2, group=3, clips=clips) for rank in range(2)]
    assert [a + b for a, b in zip(*(p.batches(5) for p in pair), strict=True)] == list(alone.batches(5))
    assert list(alone.batches(5, taken=24)) == alone.batches(5)[2:]
    assert sorted(index for batch in alone.batches(5) for _, index in batch) == list(range(36))
    assert list(alone.batches(5)) != [[(5, index) for _, index in batch] for batch in alone.batches(6)]
    assert EpochSampler(36, 12, shuffle=False, group=3, clips=clips).batches(0)[0] == [
        (0, index) for index in range(12)
    ]


def test_groups_that_cannot_be_are_refused(root: str) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        EpochSampler(10, 4, group=3, clips=np.zeros(10, int))
    with pytest.raises(ValueError, match="the clip of each"):
        EpochSampler(10, 4, group=2)
    with pytest.raises(TalkgenError, match="windows_per_clip"):
        TalkingFaceData(root, batch_size=4, windows_per_clip=3)


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_is_as_documented(root: str) -> None:
    window = WindowSettings(
        size=16,
        reference_frames=2,
        shifted_mels=3,
        mel_per_frame=True,
        waveform=True,
        arrays=("truth_opening",),
    )
    data = TalkingFaceData(root, window, batch_size=3, workers=0)
    batch = next(iter(data.train_dataloader()))
    shapes = {name: tuple(value.shape) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "video": (3, 5, 3, 16, 16), "mel": (3, 1, 80, 16), "mel_per_frame": (3, 5, 1, 80, 16),
        "reference": (3, 2, 3, 16, 16), "shifted_mel": (3, 3, 1, 80, 16), "shift": (3, 3),
        "landmarks": (3, 5, 68, 2), "identity_warp": (3, 5, 2, 3), "waveform": (3, 3200),
        "identity": (3,), "frame": (3,), "truth_opening": (3, 5),
    }  # fmt: skip
    whole = {"shift", "identity", "frame"}
    assert all(
        value.dtype == (torch.int64 if name in whole else torch.float32)
        for name, value in batch.items()
        if isinstance(value, torch.Tensor)
    )
    assert batch["video"].is_contiguous()
    assert -1 <= batch["video"].min() < batch["video"].max() <= 1
    assert set(batch) == {*shapes, "clip"} and len(batch["clip"]) == 3


def test_groups_reach_the_training_batches_and_no_others(root: str) -> None:
    data = TalkingFaceData(root, batch_size=6, workers=0, windows_per_clip=3)
    for batch in data.train_dataloader():
        assert batch["clip"][0] == batch["clip"][1] == batch["clip"][2]
        assert batch["clip"][3] == batch["clip"][4] == batch["clip"][5]
    assert next(iter(data.test_dataloader()))["frame"].tolist()[:3] == [0, 5, 10]


def test_an_epoch_of_groups_goes_on_where_it_was_left(root: str, caplog: pytest.LogCaptureFixture) -> None:
    def loader(group: int) -> WindowLoader:
        return TalkingFaceData(
            root, batch_size=4, workers=0, seed=9, windows_per_clip=group
        ).train_dataloader()

    whole = [keys(batch) for batch in loader(2)]
    stopped = loader(2)
    iterator = iter(stopped)
    assert [keys(next(iterator)) for _ in range(3)] == whole[:3]
    resumed = loader(2)
    resumed.load_state_dict(stopped.state_dict())
    assert [keys(batch) for batch in resumed] == whole[3:]
    other = loader(4)
    other.load_state_dict(stopped.state_dict())
    assert "because group changed" in caplog.text
    assert len(list(other)) == len(other)


@pytest.mark.parametrize("limit", [None, 5])
def test_clip_numbers_are_those_of_the_samples(root: str, limit: int | None) -> None:
    dataset = TalkingFaceData(root).dataset("train", limit)
    assert len(dataset.clip_numbers) == len(dataset)
    for index, number in enumerate(dataset.clip_numbers):
        assert dataset.clips[number] == dataset.locate(index)[0]


def test_splits_and_identities(root: str) -> None:
    data = TalkingFaceData(root, batch_size=4, workers=0)
    assert data.identities == ["id0", "id1", "id2", "id3"]
    assert {clip for batch in data.test_dataloader() for clip in batch["clip"]} == {"id3/clip6"}
    assert data.val_dataloader() == []
    with pytest.raises(TalkgenError, match="no clips to draw"):
        TalkingFaceData(root)._loader("val")


def keys(batch: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *batch["clip"],
        *batch["frame"].tolist(),
        float(batch["video"].double().sum()),
        float(batch["mel"].sum()),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_position_is_that_of_batches_handed_out(root: str, workers: int) -> None:
    def loader(count: int) -> WindowLoader:
        return TalkingFaceData(root, batch_size=4, workers=count, seed=9).train_dataloader()

    whole = loader(0)
    epochs = []
    for epoch in range(2):
        whole.sampler.set_epoch(epoch)
        epochs.append([keys(batch) for batch in whole])
    assert len(epochs[0]) == len(whole) > 8

    stopped = loader(workers)
    iterator = iter(stopped)
    assert [keys(next(iterator)) for _ in range(5)] == epochs[0][:5]
    state = stopped.state_dict()
    del iterator
    resumed = loader(workers)
    resumed.load_state_dict(state)
    assert [keys(batch) for batch in resumed] == epochs[0][5:]
    resumed.sampler.set_epoch(1)
    assert [keys(batch) for batch in resumed] == epochs[1]


def test_workers_end_at_once_when_an_epoch_is_left(root: str) -> None:
    loader = TalkingFaceData(root, batch_size=4, workers=2).train_dataloader()
    next(iter(loader))
    began = time.monotonic()
    del loader  # in a cycle of references, PyTorch would wait 5 s for each worker
    gc.collect()
    assert time.monotonic() - began < 4


def test_signals_to_the_whole_process_group_leave_workers_alive(root: str) -> None:
    loader = TalkingFaceData(root, WindowSettings(frames=2), batch_size=1, workers=1).train_dataloader()
    batches = iter(loader)
    next(batches)
    for worker in multiprocessing.active_children():
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid or 0, number)
    time.sleep(0.2)
    assert len(list(batches)) == len(loader) - 1


def test_a_process_that_leaves_in_mid_epoch_ends_its_workers(root: str) -> None:
    program = f"""
from talkgen.data.datamodule import TalkingFaceData
loader = TalkingFaceData({root!r}, batch_size=4, workers=1).train_dataloader()
batches = iter(loader)
next(batches)
cycle = [loader, batches]
cycle.append(cycle)
print("left", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"left\n"
    assert process.wait(timeout=20) == 0


def test_a_position_in_other_data_is_not_used(root: str, caplog: pytest.LogCaptureFixture) -> None:
    first = TalkingFaceData(root, batch_size=4, workers=0).train_dataloader()
    next(iter(first))
    other = TalkingFaceData(root, batch_size=4, workers=0, seed=1).train_dataloader()
    other.load_state_dict(first.state_dict())
    assert "seed changed" in caplog.text
    assert len(list(other)) == len(other)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_named_counted_and_capped(
    tmp_path: Path, make_store: Callable[..., Store], caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    store = make_store(tmp_path, [40] * 8, shard_bytes=1000)
    file = tmp_path / store.clips[2].shard
    file.write_bytes(bytes(file.stat().st_size))
    data = TalkingFaceData(str(tmp_path), batch_size=4, workers=workers, max_bad_fraction=0.2)
    loader = data.train_dataloader()
    assert len(list(loader)) == len(loader)
    assert loader.bad_samples == 8  # windows of that clip
    assert "00002.tar" in caplog.text
    strict = TalkingFaceData(
        str(tmp_path), batch_size=4, workers=workers, max_bad_fraction=0.0
    ).train_dataloader()
    with pytest.raises(TalkgenError, match=r"11 of \d+ samples.*talkgen prepare --check"):
        for epoch in range(3):
            strict.sampler.set_epoch(epoch)
            list(strict)


def test_too_little_for_a_batch(root: str) -> None:
    with pytest.raises(TalkgenError, match="drop_last"):
        TalkingFaceData(root, batch_size=512, workers=0, drop_last=True).train_dataloader()


# --- with Lightning -------------------------------------------------------------------------------


class Recorder(lightning.LightningModule):
    """Remembers what it was given; its only weight depends on the order of what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, tuple[Any, ...]]] = []

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        assert batch["video"].dtype == torch.float32 and batch["video"].shape[2] == 3
        self.seen.append((self.current_epoch, keys(batch)))
        return (self.weight - batch["mel"].mean() / 1000).square().mean()

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        assert batch["video"].dtype == torch.float32

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(root: str, folder: Path, workers: int, steps: int, resume: Path | None = None) -> Recorder:
    module = Recorder()
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[
            lightning.pytorch.callbacks.ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)
        ],
    )
    data = TalkingFaceData(root, batch_size=8, workers=workers, seed=3)
    trainer.fit(module, data, ckpt_path=resume)
    return module


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", ["inside the first epoch", "inside the second", "at the end of an epoch"])
def test_lightning_resumes_in_the_middle_of_an_epoch(
    root: str, tmp_path: Path, workers: int, stop: str
) -> None:
    length = len(TalkingFaceData(root, batch_size=8, workers=0, seed=3).train_dataloader())
    assert length >= 4
    at = {"inside the first epoch": 3, "inside the second": length + 2, "at the end of an epoch": length}[
        stop
    ]
    whole = fit(root, tmp_path / "whole", 0, 2 * length + 3)
    first = fit(root, tmp_path / "parts", workers, at)
    second = fit(root, tmp_path / "parts", workers, 2 * length + 3, tmp_path / "parts" / "last.ckpt")
    assert len(first.seen) == at
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.weight, whole.weight)
    epochs = np.array([epoch for epoch, _ in whole.seen])
    assert (np.bincount(epochs) == [length, length, 3]).all()
