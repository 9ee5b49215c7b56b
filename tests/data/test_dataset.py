from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talkgen.audio.alignment import mel_window, per_frame_mel_window
from talkgen.data.clip import Clip
from talkgen.data.dataset import ClipWindows
from talkgen.data.store import Store, StoreWriter
from talkgen.data.windows import WindowSettings
from talkgen.errors import FileError, TalkgenError

LENGTHS = [30, 41, 20, 55, 3, 60]
EVERYTHING = WindowSettings(
    reference_frames=3,
    shifted_mels=2,
    mel_per_frame=True,
    waveform=True,
    arrays=("whisper", "truth_opening", "crop_matrix"),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, make_store: Callable[..., Store]) -> Store:
    return make_store(tmp_path_factory.mktemp("store"), LENGTHS)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def number_of(sample: dict[str, Any]) -> int:
    return int(sample["clip"].removeprefix(sample["clip"].split("clip")[0] + "clip"))


def test_samples_hold_what_they_say(store: Store, levels_of: Callable) -> None:
    dataset = ClipWindows(store, store.clips, EVERYTHING, seed=3)
    assert len(dataset.clips) == 5  # the clip of 3 frames is left out
    for index in range(len(dataset)):
        sample = dataset[1, index]
        number, start = number_of(sample), sample["frame"]
        assert sample["video"].shape == (5, 32, 32, 3) and sample["faults"] == []
        levels = [round(float(frame.mean())) for frame in sample["video"]]
        assert levels == levels_of(number, range(start, start + 5))
        window = mel_window(start)
        assert sample["mel"].shape == (1, 80, 16)
        np.testing.assert_array_equal(sample["mel"][0, 5], 1000 * number + np.arange(*window))
        for shift, mel in zip(sample["shift"], sample["shifted_mel"], strict=True):
            assert abs(shift) >= 5
            first = mel_window(start + int(shift)).start
            np.testing.assert_array_equal(mel[0, 0], 1000 * number + np.arange(first, first + 16))
        assert sample["mel_per_frame"].shape == (5, 1, 80, 16)
        first = per_frame_mel_window(start + 2, convention="official").start
        assert sample["mel_per_frame"][2, 0, 0, 0] == 1000 * number + first
        np.testing.assert_allclose(
            sample["waveform"], (np.arange(start * 640, start * 640 + 3200) % 30000) / 32768, atol=1e-7
        )
        np.testing.assert_array_equal(sample["truth_opening"], np.arange(start, start + 5))
        # step j of Whisper is centred on j / 50 s, frame k on (k + 1/2) / 25 s: step 2k + 1
        last = 2 * store.clip(sample["clip"]).frames - 1
        expected = np.minimum(2 * np.arange(start, start + 5) + 1, last)
        np.testing.assert_allclose(sample["whisper"][:, 0], expected, atol=1e-4)
        assert sample["reference"].shape == (3, 32, 32, 3)
        assert dataset.identities[sample["identity"]] == sample["clip"].split("/")[0]


def test_an_epoch_sees_every_frame_and_epochs_differ(store: Store) -> None:
    dataset = ClipWindows(store, store.clips, WindowSettings(), jitter=False)
    seen: dict[str, set[int]] = {}
    for index in range(len(dataset)):
        sample = dataset[0, index]
        seen.setdefault(sample["clip"], set()).update(range(sample["frame"], sample["frame"] + 5))
    for clip in dataset.clips:
        assert set(range(clip.frames - clip.frames % 5)) <= seen[clip.id]
    moving = ClipWindows(store, store.clips, WindowSettings())
    epochs = [[moving.sample(epoch, index)["frame"] for index in range(len(moving))] for epoch in (0, 1)]
    assert epochs[0] != epochs[1]


def test_a_sample_depends_on_seed_epoch_and_index_alone(store: Store) -> None:
    one, two = (ClipWindows(store, store.clips, EVERYTHING, seed=5) for _ in range(2))
    order = np.random.default_rng(0).permutation(len(one))
    first = {int(index): one[2, int(index)] for index in order}
    assert all(same(first[index], two[2, index]) for index in range(len(two)))
    other = ClipWindows(store, store.clips, EVERYTHING, seed=6)
    assert not all(same(first[index], other[2, index]) for index in range(len(two)))


def test_memory_changes_nothing(store: Store) -> None:
    settings = WindowSettings(size=24, reference_frames=1)
    plain = ClipWindows(store, store.clips, settings)
    kept = ClipWindows(store, store.clips, settings, ram_bytes=150_000)  # for some clips only
    for _ in range(2):
        assert all(same(plain[0, index], kept[0, index]) for index in range(len(plain)))
    assert 0 < len(kept._ram) < len(kept.clips)


def test_size_and_mirror(store: Store) -> None:
    plain = ClipWindows(store, store.clips, WindowSettings(), jitter=False)[0, 3]
    small = ClipWindows(store, store.clips, WindowSettings(size=16), jitter=False)[0, 3]
    assert small["video"].shape == (5, 16, 16, 3)
    np.testing.assert_allclose(small["landmarks"], (plain["landmarks"] + 0.5) / 2 - 0.5, atol=1e-5)
    seen = ClipWindows(store, store.clips, WindowSettings(mirror=1.0), jitter=False)[0, 3]
    np.testing.assert_array_equal(seen["video"], plain["video"][:, :, ::-1])
    assert seen["landmarks"][0, 0, 0] == pytest.approx(31 - plain["landmarks"][0, 16, 0])


def test_limit_spreads_over_the_clips(store: Store) -> None:
    dataset = ClipWindows(store, store.clips, WindowSettings(), limit=6)
    assert len(dataset) == 6
    assert len({dataset.locate(index)[0].id for index in range(6)}) >= 4
    with pytest.raises(IndexError):
        dataset.sample(0, 6)


def test_what_cannot_work_is_said_at_once(store: Store) -> None:
    with pytest.raises(TalkgenError, match=r"rejects\.csv"):
        ClipWindows(store, [], WindowSettings())
    with pytest.raises(TalkgenError, match="needs 100, the longest clip has 60"):
        ClipWindows(store, store.clips, WindowSettings(frames=100))
    with pytest.raises(TalkgenError, match="no array hubert; it has"):
        ClipWindows(store, store.clips, WindowSettings(arrays=("hubert",)))


def test_bad_samples_are_replaced_the_same_way(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    store = make_store(tmp_path, [40] * 8, shard_bytes=1000)  # a shard for each clip
    file = tmp_path / store.clips[2].shard
    file.write_bytes(bytes(file.stat().st_size))
    dataset = ClipWindows(store, store.clips, WindowSettings())
    bad = [index for index in range(len(dataset)) if dataset.locate(index)[0].id == store.clips[2].id]
    with pytest.raises(FileError, match=r"00002\.tar"):
        dataset.sample(0, bad[0])
    sample = dataset[0, bad[0]]
    assert sample["clip"] != store.clips[2].id
    assert len(sample["faults"]) == 1 and "00002.tar" in sample["faults"][0]
    assert same(sample, ClipWindows(Store.open(tmp_path), store.clips, WindowSettings())[0, bad[0]])


def test_a_store_that_is_all_bad_stops(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    store = make_store(tmp_path, [40] * 3)
    for shard in (tmp_path / "shards").iterdir():
        shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(TalkgenError, match="9 samples in a row"):
        ClipWindows(Store.open(tmp_path), store.clips, WindowSettings())[0, 0]


def test_arrays_that_cannot_be_cut_into_windows_are_refused(tmp_path: Path, arrays_of: Callable) -> None:
    with StoreWriter(tmp_path / "store") as writer:
        for number in range(2):
            clip = Clip(f"clip{number}", "folder", "train", "x", 20, 25.0, 32)
            arrays = arrays_of(number, 20, 32) | {"truth_voice": np.zeros(3, np.float32)}
            if number:
                del arrays["truth_opening"]
            writer.add(clip, np.zeros((20, 32, 32, 3), np.uint8), arrays)
    store = Store.open(tmp_path / "store")
    with pytest.raises(TalkgenError, match="clip1 has no array 'truth_opening'"):
        ClipWindows(store, store.clips, WindowSettings(arrays=("truth_opening",)))
    with pytest.raises(TalkgenError, match="3 rows for 20 frames"):
        ClipWindows(store, store.clips, WindowSettings(arrays=("truth_voice",)))
