"""Stores behind a server that speaks S3 and fails as networks do."""

from __future__ import annotations

import errno
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import pytest
import torch

from talkgen.data import shards
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.store import Store
from talkgen.errors import FileError

pytest.importorskip("s3fs")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
URL = "s3://corpus/store"


@pytest.fixture(scope="module")
def cloud() -> Iterator[ModuleType]:
    """The benchmark whose short version this is."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("cloud_store")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def s3(cloud: ModuleType) -> ModuleType:
    """The server."""
    return importlib.import_module("faulty_s3")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_PAUSE_SECONDS", 0.005)


@pytest.fixture
def connect(s3: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Point S3's client to a server."""

    def point(server: Any) -> Any:
        for name, value in s3.environment(server).items():
            monkeypatch.setenv(name, value)
        return server

    return point


@pytest.fixture(scope="module")
def bucket(cloud: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of 12 clips, some 9 MB in 4 shards."""
    folder = tmp_path_factory.mktemp("bucket")
    cloud.write_bucket(folder)
    return folder


class Trained(lightning.LightningModule):
    """One weight that is trained on everything in a batch, and what the cache held meanwhile."""

    def __init__(self, held: Callable[[], int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.hold = held
        self.losses: list[float] = []
        self.held: list[int] = []

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        seen = batch["video"].mean() + batch["mel"].mean() + batch["landmarks"].mean() / 100
        loss = (self.weight - seen).square().mean()
        self.losses.append(float(loss.detach()))
        self.held.append(self.hold())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(root: str, cache: Path, gigabytes: float, workers: int, bad: float = 0.0) -> tuple[Trained, Any]:
    bytes_in = sys.modules["cloud_store"].bytes_in
    module = Trained(lambda: bytes_in(cache))
    data = TalkingFaceData(
        root, batch_size=4, workers=workers, seed=2, cache=str(cache), cache_gigabytes=gigabytes,
        max_bad_fraction=bad,
    )  # fmt: skip
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return module, trainer.train_dataloader


def test_training_goes_on_as_if_nothing_had_happened(
    bucket: Path, tmp_path: Path, cloud: ModuleType, s3: ModuleType, connect: Callable[..., Any]
) -> None:
    limit = 8 * 2**20  # less than the store
    with s3.faulty_s3(bucket, seed=3) as server:
        connect(server)
        remote, loader = train(URL, tmp_path / "cache", limit / 2**30, workers=2)
        count = dict(server.count)
    local, _ = train(str(bucket / "store"), tmp_path / "none", 1, workers=0)
    assert remote.losses == local.losses and len(local.losses) == 2 * 18
    assert loader.bad_samples == 0
    assert all(count[kind] for kind in s3.FAULTS)
    # each failed request is one retry, in a worker or where the store was opened
    failed = sum(count[kind] for kind in ("error", "busy", "reset", "truncated", "short"))
    retries = loader.retries + loader.dataset.store.retries
    assert failed <= retries <= failed + count["flipped"]
    assert loader.retries > 0
    assert max(remote.held) <= limit and cloud.bytes_in(tmp_path / "cache") <= limit
    assert max(remote.held) > limit / 3


def test_a_server_that_never_answers_well_is_given_up(
    bucket: Path, tmp_path: Path, s3: ModuleType, connect: Callable[..., Any]
) -> None:
    with s3.faulty_s3(bucket, {}) as server:
        connect(server)
        store = Store.open(URL, tmp_path)
        server.faults = {"error": 1.0}
        server.requests.clear()
        with pytest.raises(FileError, match=r"s3://corpus/store/shards/00000\.tar: cannot be read in 6 att"):
            store.frames(store.clips[0], 0, 1)
        assert list(server.requests.values()) == [6] and store.retries == 5
        with pytest.raises(FileError, match=r"store\.json: cannot be read in 6 attempts"):
            Store.open(URL, tmp_path)
    with pytest.raises(FileError, match="cannot be read in 6 attempts"):  # nobody listens any more
        store.frames(store.clips[0], 0, 1)
    with s3.faulty_s3(bucket, {}) as server:
        connect(server)
        with pytest.raises(FileError, match="no such file"):
            Store.open(URL + "/nowhere", tmp_path)


def test_a_corrupt_shard_is_found_and_named(
    bucket: Path,
    tmp_path: Path,
    s3: ModuleType,
    connect: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shard = bucket / "store/shards/00001.tar"
    whole = shard.read_bytes()
    clip = Store.open(bucket / "store").clips[3]
    assert clip.shard == "shards/00001.tar"
    spoilt = bytearray(whole)
    spoilt[100_000] ^= 1  # in a picture of that clip
    try:
        shard.write_bytes(spoilt)
        with s3.faulty_s3(bucket, {}) as server, caplog.at_level(logging.WARNING):
            connect(server)
            _, loader = train(URL, tmp_path / "cache", 1, workers=2, bad=0.2)
            assert 0 < loader.bad_samples < 8
            assert "s3://corpus/store/shards/00001.tar" in caplog.text and "of clip clip3" in caplog.text
            faults = {name: fault for name, fault in Store.open(URL, tmp_path / "2").verify() if fault}
            assert set(faults) == {"s3://corpus/store/shards/00001.tar", "clip3"}
            assert "sha256" in faults["s3://corpus/store/shards/00001.tar"]
            shard.write_bytes(whole)  # put right on the server; what the cache holds of it is not believed
            again = Store.open(URL, tmp_path / "2")
            assert [fault for _, fault in again.verify() if fault] == []
    finally:
        shard.write_bytes(whole)


def test_blocks_that_were_spoilt_on_the_way_or_in_the_cache_are_fetched_again(
    bucket: Path, tmp_path: Path, s3: ModuleType, connect: Callable[..., Any]
) -> None:
    local = Store.open(bucket / "store")
    with s3.faulty_s3(bucket, {}) as server:
        connect(server)
        remote = Store.open(URL, tmp_path)
        frames = remote.frames(remote.clips[0])
        assert (frames == local.frames(local.clips[0])).all()
        for file in tmp_path.rglob("shards_*"):
            file.write_bytes(bytes(file.stat().st_size))
        assert (remote.frames(remote.clips[0]) == frames).all() and remote.retries > 0
        for file in tmp_path.rglob("shards_*"):
            file.write_bytes(file.read_bytes()[:-5])  # cut short
        window = remote.array(remote.clips[1], "landmarks", 3, 5)
        assert (window == local.array(local.clips[1], "landmarks", 3, 5)).all()
        remote, server.faults = Store.open(URL, tmp_path / "2"), {"flipped": 1.0}  # three times in a row
        assert (remote.frames(remote.clips[0]) == frames).all() and 0 < remote.retries <= 3 * 2


def test_a_cache_that_cannot_be_written_is_done_without(
    bucket: Path, tmp_path: Path, s3: ModuleType, connect: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def full(file: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "write_atomically", full)
    local = Store.open(bucket / "store")
    with s3.faulty_s3(bucket, {}) as server:
        connect(server)
        remote = Store.open(URL, tmp_path)
        for clip in remote.clips:
            assert (remote.frames(clip, 3, 5) == local.frames(clip, 3, 5)).all()
    assert caplog.text.count("No space left on device") == 1


def test_a_flipped_bit_in_an_array_is_found_by_the_first_window(bucket: Path, tmp_path: Path) -> None:
    """Also where no window reads the bit itself; and a sound array is looked at once."""
    source = bucket / "store"
    (tmp_path / "shards").mkdir()
    for file in source.rglob("*.*"):
        (tmp_path / file.relative_to(source)).write_bytes(file.read_bytes())
    store = Store.open(tmp_path)
    clip = store.clips[7]
    entry = store._entry(clip, "landmarks")
    shard = tmp_path / clip.shard
    content = bytearray(shard.read_bytes())
    content[int(entry["offset"]) + 5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(FileError, match=r"damaged at landmarks of clip clip7"):
        store.array(clip, "landmarks", 20, 25)
    sound = store.array(store.clips[8], "landmarks", 20, 25)
    assert (store.array(store.clips[8], "landmarks")[20:25] == sound).all()
