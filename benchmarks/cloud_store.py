"""Training from a store behind a server that fails as networks do: what is repeated, and what comes of it.

    python benchmarks/cloud_store.py --write    # keeps the table in docs/performance/data_scale.md

The server runs on this machine (`faulty_s3.py`); three failures in a row are the most that a request meets.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from document import keep
from faulty_s3 import BUCKET, FAULTS, environment, faulty_s3

from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.store import Store, StoreWriter

URL = f"s3://{BUCKET}/store"
CLIPS, FRAMES, SIZE = 12, 30, 96
LIMIT = 8 * 2**20  # bytes of the cache, less than the store has
SHARE = 0.3  # of requests that a fault befalls which is looked at alone
_NOT_FAILED = ("good", "slow")


@dataclass(frozen=True)
class Run:
    """What a training came to."""

    losses: list[float]
    retries: int
    bad: int
    most_bytes: int  # that the cache held
    seconds: float


def write_bucket(folder: Path) -> None:
    """A store of 9 MB in 4 shards, in the folder `store` of a bucket."""
    rng = np.random.default_rng(0)
    with StoreWriter(folder / "store", shard_bytes=1_500_000) as writer:
        for number in range(CLIPS):
            clip = Clip(f"clip{number}", "demo", "train", f"person{number % 3}", FRAMES, 25.0, SIZE)
            arrays = {
                "mel": rng.normal(size=(80, 97)).astype(np.float32),
                "landmarks": rng.uniform(20, 70, (FRAMES, 68, 2)).astype(np.float32),
                "identity_warp": np.tile(np.eye(2, 3, dtype=np.float32), (FRAMES, 1, 1)),
            }
            writer.add(clip, rng.integers(0, 255, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8), arrays)


def bytes_in(folder: Path) -> int:
    """Bytes of all files, some of which may go meanwhile."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def train(root: str, cache: Path, workers: int) -> Run:
    """Two epochs of a network with one weight, which everything in a batch moves."""
    began = time.perf_counter()
    data = TalkingFaceData(
        root, batch_size=4, workers=workers, seed=2, cache=str(cache), cache_gigabytes=LIMIT / 2**30,
        max_bad_fraction=0.2,
    )  # fmt: skip
    loader = data.train_dataloader()
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    losses, most = [], 0
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            seen = batch["video"].mean() + batch["mel"].mean() + batch["landmarks"].mean() / 100
            loss = (weight - seen).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            most = max(most, bytes_in(cache))
    # reads of workers are counted by the loader, those that opened the store in this process
    retries = data.store.retries + (loader.retries if workers else 0)
    return Run(losses, retries, loader.bad_samples, most, time.perf_counter() - began)


def row(name: str, folder: Path, faults: Mapping[str, float], workers: int, local: Run) -> tuple[str, bool]:
    """A line of the table, and whether all is well."""
    with tempfile.TemporaryDirectory() as cache, faulty_s3(folder, faults) as server:
        os.environ.update(environment(server))
        run = train(URL, Path(cache), workers)
        failed = sum(count for kind, count in server.count.items() if kind not in _NOT_FAILED)
        requests = server.count.total()
    same = run.losses == local.losses
    good = same and run.bad == 0 and run.most_bytes <= LIMIT and run.retries <= failed
    cells: list[Any] = [
        name, requests, failed, run.retries, run.bad, "the same" if same else "**others**",
        f"{run.most_bytes / 1e6:.1f}", f"{run.seconds:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", good


def corrupt(folder: Path) -> tuple[str, bool]:
    """What is said of a shard in which a bit is another one on the server itself."""
    shard = folder / "store/shards/00001.tar"
    content = bytearray(shard.read_bytes())
    content[100_000] ^= 1
    shard.write_bytes(content)
    with tempfile.TemporaryDirectory() as cache, faulty_s3(folder, {}) as server:
        os.environ.update(environment(server))
        bad = train(URL, Path(cache), 0).bad
        named = [name for name, fault in Store.open(URL, cache).verify() if fault]
    text = (
        f"A bit flipped in a shard on the server: {bad} windows were replaced and training went on; "
        f"`talkgen prepare --check` names {' and '.join(f'`{name}`' for name in named)}."
    )
    return text, bad > 0 and named == [f"{URL}/shards/00001.tar", "clip3"]


def main() -> str | int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    lines = [
        f"Two epochs of {CLIPS * (FRAMES - 4) // 5 + CLIPS} windows; a cache of {LIMIT / 1e6:.1f} MB:",
        "",
        "| what the server does | requests | failed | repeated | bad windows | losses beside a local store "
        "| cache MB, at most | seconds |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_bucket(Path(folder))
        local = train(f"{folder}/store", Path(folder) / "none", 0)
        wanted = [("nothing wrong", {}, 0)]
        wanted += [(kind, {kind: SHARE}, 0) for kind in FAULTS]
        wanted += [("all of it, two reading workers", FAULTS, 2)]
        made = [row(name, Path(folder), faults, workers, local) for name, faults, workers in wanted]
        said, found = corrupt(Path(folder))
    lines += [line for line, _ in made]
    lines += ["", said]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        keep("data_scale", "Data at scale", text, part="cloud")
    good = found and all(good for _, good in made)
    return 0 if good else "something was lost, or came out otherwise than from a local store"


if __name__ == "__main__":
    sys.exit(main())
