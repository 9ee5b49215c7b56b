"""A store of a million clips: what opening, shuffling, sharing and resuming cost, and that nothing is lost.

    python benchmarks/data_scale.py --write    # keeps the table in docs/performance/data_scale.md

The store has the size of VoxCeleb2's manifest: a million clips of 6,112 people, of 4 to 12 s. Its clips
share the bytes of one small shard, so that it lies on a disk in seconds; manifest, index and everything that
reads them are those of a real one. What is measured runs in processes of its own, whose greatest resident
memory the kernel reports.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from document import keep

from talkgen.data.clip import Clip, to_json
from talkgen.data.clip_table import read_columns, to_npy
from talkgen.data.sampler import EpochSampler
from talkgen.data.store import _ENTRY, Store, StoreWriter

CLIPS = 1_000_000
PEOPLE = 6112
LENGTHS = (101, 140, 183, 219, 300)  # frames of the clips whose bytes the others share
SIZE = 16
BATCH = 32  # samples of a process
TARGET_SECONDS, TARGET_MEGABYTES = 5.0, 1000.0


def write_store(root: Path, clips: int = CLIPS) -> None:
    """A store of so many clips, all of which lie in the bytes of a few."""
    few = root / "few"
    rng = np.random.default_rng(0)
    with StoreWriter(few) as writer:
        for number, frames in enumerate(LENGTHS):
            arrays = {
                "mel": rng.normal(size=(80, round(frames / 25 * 80))).astype(np.float32),
                "waveform": rng.integers(-3000, 3000, frames * 640).astype(np.int16),
                "landmarks": rng.uniform(2, 14, (frames, 68, 2)).astype(np.float32),
                "identity_warp": np.tile(np.array([[7, 0, 0], [0, 7, 0]], np.float32), (frames, 1, 1)),
                "crop_matrix": np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1)),
            }
            video = rng.integers(0, 255, (frames, SIZE, SIZE, 3)).astype(np.uint8)
            writer.add(Clip(f"clip{number}", "demo", "train", "person", frames, 25.0, SIZE), video, arrays)
    (few / "shards").replace(root / "shards")
    entries = np.load(few / "index.npy")
    description = json.loads((few / "store.json").read_text())
    shutil.rmtree(few)
    with (root / "clips.jsonl").open("w") as handle:
        handle.writelines(_lines(clips))
    manifest = (root / "clips.jsonl").read_bytes()
    files = {
        "columns": to_npy(read_columns(manifest, "clips.jsonl")),
        "index": to_npy(np.ascontiguousarray(entries[np.arange(clips) % len(LENGTHS)], _ENTRY)),
    }
    for name, content in files.items():
        (root / f"{name}.npy").write_bytes(content)
        description[f"{name}_sha256"] = sha256(content).hexdigest()
    description["manifest_sha256"] = sha256(manifest).hexdigest()
    description["clips"] = clips
    description["frames"] = sum(LENGTHS) * clips // len(LENGTHS)
    (root / "store.json").write_text(json.dumps(description))


def _lines(clips: int) -> Iterator[str]:
    """Lines of a manifest with paths and measures such as those of VoxCeleb2."""
    for number in range(clips):
        person = number * PEOPLE // clips
        path = f"id{person:05d}/{number // 20:011x}/{number % 20:05d}"
        split = "train" if number % 100 else "test" if number % 200 else "val"
        if number < 3:  # the lines below are what `to_json` writes
            assert _line(number, path, split, person) == to_json(_clip(number, path, split, person)) + "\n"
        yield _line(number, path, split, person)


def _line(number: int, path: str, split: str, person: int) -> str:
    return (
        f'{{"id": "{path}", "corpus": "voxceleb2", "split": "{split}", "identity": "id{person:05d}", '
        f'"frames": {LENGTHS[number % len(LENGTHS)]}, "fps": 25.0, "size": {SIZE}, '
        f'"shard": "shards/00000.tar", "video": "dev/mp4/{path}.mp4", "raw": "{path}", '
        '"checks": {"face_found_ratio": 0.9967, "face_size_pixels": 148.25, "yaw_degrees": 12.5, '
        '"blur": 0.0231, "speech_ratio": 0.875}}\n'
    )


def _clip(number: int, path: str, split: str, person: int) -> Clip:
    checks = {
        "face_found_ratio": 0.9967,
        "face_size_pixels": 148.25,
        "yaw_degrees": 12.5,
        "blur": 0.0231,
        "speech_ratio": 0.875,
    }
    frames = LENGTHS[number % len(LENGTHS)]
    return Clip(
        path, "voxceleb2", split, f"id{person:05d}", frames, 25.0, SIZE, "shards/00000.tar",
        video=f"dev/mp4/{path}.mp4", raw=path, checks=checks,
    )  # fmt: skip


def apart(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a function gives in a fresh process, and the process's greatest resident memory in MB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _report(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    result = function(*arguments)
    sender.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000))


def open_store(root: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor to open a store."""
    clock, processor = time.perf_counter(), time.process_time()
    assert len(Store.open(root))
    return time.perf_counter() - clock, time.process_time() - processor


def open_without_columns(root: str) -> tuple[float, float]:
    """The same of a store of an earlier version, whose manifest is read line by line."""
    clock, processor = time.perf_counter(), time.process_time()
    store = Store.open(root)
    read_columns(store._parts[2].view, "clips.jsonl")
    return time.perf_counter() - clock, time.process_time() - processor


def first_batches(root: str, workers: int) -> tuple[float, float, float, float, int]:
    """Resident MB of the imports; seconds to the first batch of an epoch, and to the first after a restart in
    its middle; MB that each worker has for itself; samples of an epoch.
    """
    from talkgen.data.datamodule import TalkingFaceData

    imports = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    began = time.perf_counter()
    loader = TalkingFaceData(root, batch_size=BATCH, workers=workers).train_dataloader()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - began
    own = [_private_megabytes(child.pid or 0) for child in multiprocessing.active_children()]
    state, samples = loader.state_dict(), loader.sampler.length
    state["taken"] = loader.sampler.length // BATCH // 2 * BATCH
    del batches, loader
    began = time.perf_counter()
    resumed = TalkingFaceData(root, batch_size=BATCH, workers=0).train_dataloader()
    resumed.load_state_dict(state)
    next(iter(resumed))
    return imports, first, time.perf_counter() - began, max(own, default=0.0), samples


def _private_megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return (sizes["Private_Clean"] + sizes["Private_Dirty"]) / 1000


def coverage(samples: int, worlds: tuple[int, ...]) -> tuple[int, int, int, float]:
    """Share an epoch among processes whose number changes at equal parts of it.

    Returns:
        Samples that were lost, that came twice, repeats that fill up the last global batch, and seconds of
        the processor for a million samples.
    """
    seen = np.zeros(samples, np.uint8)
    taken, began = 0, time.process_time()
    for part, world in enumerate(worlds):
        end = samples * (part + 1) // len(worlds)
        ranks = [EpochSampler(samples, BATCH, seed=3, rank=rank, world=world) for rank in range(world)]
        batches = [rank.batches(1, taken) for rank in ranks]
        last = part + 1 == len(worlds)
        count = len(batches[0]) if last else (end - taken) // (world * BATCH)
        for mine in batches:
            for number in range(count):
                seen[mine.indices(number)] += 1
        taken += count * world * BATCH
    seconds = (time.process_time() - began) / samples * 1e6
    filled = taken - samples
    twice = int((seen > 1).sum())
    return int((seen == 0).sum()), max(0, twice - filled), filled, seconds


def table(root: Path, clips: int) -> tuple[list[str], bool]:
    """Lines of the table, and whether all targets are met."""
    write_store(root, clips)
    _, plain = apart(len, "")
    (seconds, processor), memory = apart(open_store, str(root))
    (old, old_processor), old_memory = apart(open_without_columns, str(root))
    (imports, first, resumed, own, samples), training = apart(first_batches, str(root), 2)
    rows = [
        ("Python with NumPy and OpenCV", "", f"{plain:.0f}", ""),
        ("open the store", f"{seconds:.2f} ({processor:.2f})", f"{memory:.0f}", "5 s, 1000 MB"),
        ("and read its manifest line by line (a store of an earlier version)",
         f"{old:.2f} ({old_processor:.2f})", f"{old_memory:.0f}", ""),
        ("Python with PyTorch and Lightning", "", f"{imports:.0f}", ""),
        (f"open, shuffle {samples:,} windows, first batch of {BATCH} from 2 workers", f"{first:.2f}",
         f"{training:.0f}, each worker {own:.0f} of its own", ""),
        ("the same again from the middle of an epoch", f"{resumed:.2f}", "", ""),
    ]  # fmt: skip
    good = seconds < TARGET_SECONDS and memory < TARGET_MEGABYTES
    lines = [
        f"A store of {clips:,} clips of {PEOPLE:,} people:",
        "",
        "| | seconds (of the processor) | resident MB, at most | target |",
        "|---|---:|---:|---:|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Epochs shared among processes in batches of {BATCH} each, every sample counted:",
        "",
        "| processes, at equal parts of the epoch | windows | lost | twice | fill the last batch "
        "| s per million |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    few = samples // 20 + 7
    for worlds, size in (((8,), samples), ((8, 6), samples), ((6, 8), few), ((8, 6, 7, 1, 16), few)):
        (lost, twice, filled, spent), _ = apart(coverage, size, worlds)
        good &= lost == twice == 0
        cells = [" → ".join(map(str, worlds)), f"{size:,}", lost, twice, filled, f"{spent:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines, good


def main() -> str | int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="data-scale-"))
    try:
        lines, good = table(root, arguments.clips)
    finally:
        shutil.rmtree(root)
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        keep("data_scale", "Data at scale", text, part="million")
    return 0 if good else "a sample was lost or came twice, or opening the store missed its target"


if __name__ == "__main__":
    sys.exit(main())
