"""What grows with a corpus: its manifest, the order of an epoch, the number of processes that share it."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from talkgen.data.clip import Clip, from_json
from talkgen.data.clip_table import COLUMNS, Rows, hash_of, read_columns
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.dataset import ClipWindows, MixedWindows
from talkgen.data.loader import WindowLoader
from talkgen.data.sampler import EpochSampler
from talkgen.data.store import Store
from talkgen.data.windows import WindowSettings
from talkgen.errors import FileError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CLIPS = 100_000


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("data_scale")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def large(benchmark: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a manifest of 100,000 clips."""
    root = tmp_path_factory.mktemp("large")
    benchmark.write_store(root, CLIPS)
    return root


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


# --- the manifest ---------------------------------------------------------------------------------


def test_a_large_store_opens_at_once_and_takes_little_memory(large: Path) -> None:
    """A tenth of the targets of a million clips: 5 s and a gigabyte."""
    before, began = resident_megabytes(), time.process_time()
    store = Store.open(large)
    data = TalkingFaceData(str(large), batch_size=4, workers=0)
    loader = data.train_dataloader()
    assert time.process_time() - began < 1
    assert len(store) == CLIPS and len(loader.dataset.clips) == CLIPS - CLIPS // 100
    assert len(data.identities) == 6112
    batch = next(iter(loader))
    assert batch["video"].shape == (4, 5, 3, 16, 16)
    assert resident_megabytes() - before < 100


def test_a_table_is_the_list_of_its_clips(large: Path) -> None:
    store = Store.open(large)
    with (large / "clips.jsonl").open() as handle:
        clips = [from_json(line, Clip) for line, _ in zip(handle, range(3000), strict=False)]
    some = store.clips[:3000]
    assert some == clips and some != clips[1:] and some != [*clips[1:], clips[0]]
    assert some[17] == clips[17] and some[-1] == clips[-1] and some[5:50:7] == clips[5:50:7]
    assert some.frames.tolist() == [clip.frames for clip in clips]
    assert some.identities() == sorted({clip.identity for clip in clips})
    assert some.of_split("val") == [clip for clip in clips if clip.split == "val"]
    assert some.of_split("test")[1] == [clip for clip in clips if clip.split == "test"][1]
    last = store.clips[-1]
    assert store.clip(last.id) == last and store.length(last, "landmarks") == last.frames
    with pytest.raises(IndexError):
        some[3000]
    with pytest.raises(KeyError):
        store.clip("nobody")


def test_stores_of_earlier_versions_have_no_columns(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    store = make_store(tmp_path, [30, 40, 50])
    description = json.loads((tmp_path / "store.json").read_text())
    del description["columns_sha256"]
    (tmp_path / "store.json").write_text(json.dumps(description))
    (tmp_path / "columns.npy").unlink()
    again = Store.open(tmp_path)
    assert again.clips == store.clips
    assert (again.frames(again.clips[2]) == store.frames(store.clips[2])).all()


def test_spoilt_columns_are_named(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    make_store(tmp_path, [30, 40, 50])
    content = bytearray((tmp_path / "columns.npy").read_bytes())
    content[-3] ^= 1
    (tmp_path / "columns.npy").write_bytes(content)
    with pytest.raises(FileError, match=r"columns\.npy: does not have the sha256"):
        Store.open(tmp_path)


LINE = '{"id": "a%d", "corpus": "x", "split": "train", "identity": "b", "frames": 9, "fps": 25.0, "size": 8}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 6000:"),
        ("3", "line 6000: not a JSON object"),
        (LINE % 7 + "," + LINE % 8, "line 6000:"),
        (LINE.replace('"frames"', '"frame"') % 9, "line 6000: unknown key 'frame'"),
        (LINE.replace('"fps": 25.0, ', "") % 9, "line 6000: key 'fps' is missing"),
        (LINE.replace("train", "dev") % 9, "line 6000: split of clip 'a9'"),
        (LINE.replace('"b"', '["b"]') % 9, "lines 4097 to 6001: a value of the wrong type"),
        (LINE % 5, "a second clip with id 'a5'"),
    ],
)
def test_the_line_at_fault_is_named(line: str, message: str) -> None:
    lines = [LINE % number for number in range(6001)]
    lines[5999] = line
    with pytest.raises(FileError, match=message):
        read_columns("\n".join(lines).encode(), "clips.jsonl")


def test_columns_of_odd_lines() -> None:
    """Empty lines, no line feed at the end, letters of several bytes, lines across pieces of a megabyte."""
    text = "\n\n".join(
        (LINE % number).replace('"b"', f'"{"ü" * (number % 3)}\u2028"') for number in range(20_000)
    )
    columns = read_columns(text.encode(), "clips.jsonl")
    assert len(columns) == 20_000 and columns["identity"].max() == 2
    for row in (0, 8_191, 19_999):
        start, size = int(columns["start"][row]), int(columns["bytes"][row])
        assert from_json(text.encode()[start : start + size].decode(), Clip).id == f"a{row}"
        assert Rows(columns)[f"a{row}"] == row
    assert read_columns(b"", "clips.jsonl").dtype == COLUMNS
    assert hash_of("a0") == columns["id"][0] != hash_of("a1")


# --- the order of an epoch ------------------------------------------------------------------------


def test_the_order_is_that_of_a_permutation_without_its_list() -> None:
    sampler = EpochSampler(1000, 7, seed=5, rank=1, world=3)
    order = np.random.default_rng((5, 2)).permutation(1000)
    filled = np.resize(order, 48 * 21).reshape(48, 3, 7)[:, 1]
    assert [[index for _, index in batch] for batch in sampler.batches(2)] == filled.tolist()
    batches = EpochSampler(40_000_000, 32, rank=7, world=8, shuffle=False).batches(0)
    assert len(batches) == 156_250 and batches[-1][-1] == (0, 39_999_999)


@pytest.mark.parametrize("worlds", [(8,), (8, 6), (6, 8), (8, 6, 7, 1, 16)])
def test_an_epoch_is_covered_whatever_the_number_of_processes(
    benchmark: ModuleType, worlds: tuple[int, ...]
) -> None:
    lost, twice, filled, _ = benchmark.coverage(500_009, worlds)
    assert lost == twice == 0 and filled < benchmark.BATCH * worlds[-1]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("group", [1, 2])
def test_six_loaders_end_what_eight_began(
    tmp_path: Path, make_store: Callable[..., Store], group: int, drop_last: bool
) -> None:
    """The windows themselves, through checkpoints of the loaders."""
    dataset = ClipWindows(make_store(tmp_path, [43] * 24), Store.open(tmp_path).clips, WindowSettings(), 3)

    def loader(rank: int, world: int) -> WindowLoader:
        clips = dataset.clip_numbers
        return WindowLoader(
            dataset, EpochSampler(len(dataset), 2, 3, True, drop_last, rank, world, group, clips)
        )

    seen: Counter[tuple[str, int]] = Counter()
    states = []
    for rank in range(8):
        batches = iter(one := loader(rank, 8))
        for _ in range(5):
            batch = next(batches)
            seen.update(zip(batch["clip"], batch["frame"].tolist(), strict=True))
        states.append(one.state_dict())
    assert all(state == states[0] for state in states) and states[0]["taken"] == 80
    assert len(seen) == 80
    for rank in range(6):
        resumed = loader(rank, 6)
        differences: list[int] = []
        resumed._renumber = differences.append
        resumed.load_state_dict(states[0])
        rest = list(resumed)
        assert differences == [len(resumed) - len(rest) - 5]
        for batch in rest:
            seen.update(zip(batch["clip"], batch["frame"].tolist(), strict=True))
        assert len(list(resumed)) == len(resumed)  # the epoch is over: all of it again
    whole = len(dataset)
    assert whole == 192
    if drop_last:
        assert sum(seen.values()) == len(seen) == 80 + (whole - 80) // 12 * 12
    else:
        assert len(seen) == whole and sum(seen.values()) == 80 + -(-(whole - 80) // 12) * 12


def test_positions_of_earlier_versions_are_understood(
    tmp_path: Path, make_store: Callable[..., Store]
) -> None:
    make_store(tmp_path, [60, 60])
    first, second = (
        TalkingFaceData(str(tmp_path), batch_size=2, workers=0).train_dataloader() for _ in range(2)
    )
    batches = iter(first)
    for _ in range(3):
        next(batches)
    state = {**first.state_dict(), "global_batch": 2}
    assert state.pop("taken") == 6 and state["batches"] == 3
    second.load_state_dict(state)
    assert [batch["clip"] for batch in second] == [batch["clip"] for batch in batches]


class Recorder(lightning.LightningModule):
    """Remembers which windows it was given, and when it was validated."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, str, int]] = []
        self.validated: list[int] = []

    def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
        frames = batch["frame"].tolist()
        self.seen += [(self.current_epoch, *one) for one in zip(batch["clip"], frames, strict=True)]
        return self.weight.square().sum()

    def validation_step(self, batch: dict[str, Any], number: int) -> None:
        if number == 0 and not self.trainer.sanity_checking:
            self.validated.append(len(self.seen))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize(("before", "after"), [(8, 6), (3, 8), (5, 20)])
def test_lightning_goes_on_with_another_global_batch(
    tmp_path: Path, make_store: Callable[..., Store], before: int, after: int
) -> None:
    """The epoch ends, is validated and is followed by whole ones where it should."""
    make_store(tmp_path / "store", [43] * 15)  # 12 for training: 96 windows

    def fit(batch_size: int, steps: int, resume: Path | None) -> Recorder:
        module = Recorder()
        data = TalkingFaceData(str(tmp_path / "store"), batch_size=batch_size, workers=0)
        data.val_dataloader = data.test_dataloader  # type: ignore[method-assign]
        keep = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1)
        lightning.Trainer(
            max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[keep],
        ).fit(module, data, ckpt_path=resume, weights_only=False)  # fmt: skip
        return module

    first = fit(before, 5, None)
    taken = 5 * before
    assert len(set(first.seen)) == len(first.seen) == taken
    rest, whole = -(-(96 - taken) // after), -(-96 // after)
    second = fit(after, 5 + rest + 2 * whole, tmp_path / "last.ckpt")
    begun = [windows[1:] for windows in [*first.seen, *second.seen] if windows[0] == 0]
    assert len(set(begun)) == 96 and len(begun) == taken + rest * after < 96 + after
    ends = np.cumsum([rest * after, whole * after, whole * after]).tolist()
    assert second.validated == ends and len(second.seen) == ends[-1]
    for epoch in (1, 2):
        assert len({windows[1:] for windows in second.seen if windows[0] == epoch}) == 96


def test_mixed_stores_keep_no_list_of_clips(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    parts = []
    for number, lengths in enumerate(([40, 50], [60, 30, 45])):
        store = make_store(tmp_path / str(number), lengths)
        parts.append(ClipWindows(store, store.clips, WindowSettings(size=32)))
    mixed = MixedWindows(parts)
    assert len(mixed.clips) == 5 and mixed.clips[1:4] == [*parts[0].clips[1:], *parts[1].clips[:2]]
    assert mixed.clips[-1] == parts[1].clips[2]
    for index in range(len(mixed)):
        assert mixed.clips[int(mixed.clip_numbers[index])] == mixed.locate(index)[0]
    with pytest.raises(IndexError):
        mixed.clips[5]
