from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest

from talkgen.data.clip import Clip
from talkgen.data.shards import RemoteShards
from talkgen.data.store import Store, StoreWriter
from talkgen.errors import FileError

LENGTHS = [30, 41, 20, 55, 12]


@pytest.fixture
def store(tmp_path: Path, make_store: Callable[..., Store]) -> Store:
    return make_store(tmp_path / "store", LENGTHS)


def levels(frames: np.ndarray) -> list[int]:
    return [round(float(level)) for level in frames.mean(axis=(1, 2, 3))]


def test_everything_comes_back(store: Store, levels_of: Callable, arrays_of: Callable) -> None:
    assert len(store.description["shards"]) > 1
    for number, length in enumerate(LENGTHS):
        clip = store.clips[number]
        assert levels(store.frames(clip)) == levels_of(number, range(length))
        for name, array in arrays_of(number, length, store.size).items():
            read = store.array(clip, name)
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)
            assert store.length(clip, name) == (array.shape[-1] if name == "mel" else len(array))


def test_windows_of_frames_and_arrays(store: Store, levels_of: Callable) -> None:
    clip = store.clips[3]
    assert levels(store.frames(clip, 50, 55)) == levels_of(3, range(50, 55))
    assert levels(store.frames_at(clip, [54, 0, 7])) == levels_of(3, [54, 0, 7])
    assert store.frames(clip, 5, 5).shape == (0, 32, 32, 3)
    mel = store.array(clip, "mel", 10, 26)
    assert mel.shape == (80, 16)
    np.testing.assert_array_equal(mel[17], 3000 + np.arange(10, 26))
    np.testing.assert_array_equal(store.array(clip, "waveform", 640, 1280), np.arange(640, 1280))


def test_pictures_keep_their_colours(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (64, 64), interpolation=cv2.INTER_CUBIC)
    with StoreWriter(tmp_path) as writer:
        writer.add(Clip("a", "folder", "train", "a", 1, 25.0, 64), image[None], {})
    error = Store.open(tmp_path).frames(Store.open(tmp_path).clips[0])[0].astype(float) - image
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 40  # swapped channels would give about 10 dB


@pytest.mark.parametrize("codec", ["jpeg", "i420"])
def test_codecs(tmp_path: Path, codec: str) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(40, 200, (6, 9, 9, 1))
    coarse = (grey + rng.integers(-15, 15, (6, 9, 9, 3))).astype(np.uint8)  # saturated noise is no picture
    frames = np.stack([cv2.resize(image, (64, 64), interpolation=cv2.INTER_CUBIC) for image in coarse])
    with StoreWriter(tmp_path, codec=codec) as writer:
        writer.add(Clip("a", "folder", "train", "a", 6, 25.0, 64), frames, {})
    store = Store.open(tmp_path)
    assert store.streams["frames"].dtype == codec
    read = store.frames_at(store.clips[0], [4, 1])
    error = read.astype(float) - frames[[4, 1]]
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 33
    if codec == "i420":
        assert store._index[0, 0]["bytes"] == 6 * 64 * 64 * 3 // 2
        with pytest.raises(ValueError, match="even size"):
            writer.add(Clip("b", "folder", "train", "a", 1, 25.0, 63), frames[:1, :63, :63], {})


def test_out_of_range_is_refused(store: Store) -> None:
    clip = store.clips[0]
    with pytest.raises(IndexError, match="frames 0 to 29"):
        store.frames_at(clip, [30])
    with pytest.raises(IndexError, match="steps"):
        store.array(clip, "mel", 90, 106)
    with pytest.raises(KeyError, match=r"hubert.*mel"):
        store.array(clip, "hubert")
    assert store.has(clip, "mel") and not store.has(clip, "hubert")


def test_a_shard_is_a_plain_tar(store: Store, tmp_path: Path) -> None:
    clip = store.clips[1]
    with tarfile.open(tmp_path / "store" / clip.shard) as tar:
        content = tar.extractfile(f"{clip.id}/mel.npy")
        jpegs = tar.extractfile(f"{clip.id}/frames.mjpeg")
        assert content is not None and jpegs is not None
        mel = np.load(io.BytesIO(content.read()))
        assert jpegs.read(2) == b"\xff\xd8"
    np.testing.assert_array_equal(mel.T, store.array(clip, "mel"))


def test_writing_is_deterministic(store: Store, tmp_path: Path, make_store: Callable) -> None:
    make_store(tmp_path / "again", LENGTHS)
    for file in sorted((tmp_path / "store").rglob("*")):
        if file.is_file():
            assert (
                file.read_bytes() == (tmp_path / "again" / file.relative_to(tmp_path / "store")).read_bytes()
            )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_alike(store: Store, method: str) -> None:
    clip = store.clips[1]
    here = store.frames(clip, 3, 9)  # opens a map in this process first
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        there = [pool.submit(store.frames, clip, 3, 9) for _ in range(4)]
        assert all(np.array_equal(future.result(), here) for future in there)


def test_damage_is_named(store: Store, tmp_path: Path) -> None:
    clip = store.clips[0]
    file = tmp_path / "store" / clip.shard
    content = bytearray(file.read_bytes())
    content[content.index(b"\xff\xd8") + 300] ^= 0xFF
    file.write_bytes(content)
    damaged = Store.open(tmp_path / "store")
    digest = damaged.description["shards"][0]["sha256"]
    with pytest.raises(FileError, match=rf"00000\.tar: .*frame 0 of clip id0/clip0 .*{digest}"):
        damaged.frames(clip)
    faults = {name: fault for name, fault in damaged.verify() if fault}
    assert set(faults) == {str(file), clip.id}
    file.write_bytes(content[:5000])
    with pytest.raises(FileError, match="cut short"):
        Store.open(tmp_path / "store").frames(clip)


def test_verify_of_a_sound_store(store: Store) -> None:
    checked = dict(store.verify())
    assert set(checked.values()) == {None}
    assert len(checked) == len(store) + len(store.description["shards"])


def test_no_store_and_half_a_store(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such folder"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(FileError, match="not a prepared store"):
        Store.open(tmp_path)
    (tmp_path / "work").mkdir()
    with pytest.raises(FileError, match="run the same"):
        Store.open(tmp_path)


def test_wrong_content_is_refused_when_writing(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path)
    clip = Clip("a", "folder", "train", "a", 3, 25.0, 8)
    with pytest.raises(ValueError, match="3 frames, got 2"):
        writer.add(clip, np.zeros((2, 8, 8, 3), np.uint8), {})
    with pytest.raises(ValueError, match="not uint8"):
        writer.add(clip, np.zeros((3, 9, 8, 3), np.uint8), {})
    writer.add(clip, np.zeros((3, 8, 8, 3), np.uint8), {"x": np.zeros((3, 2))})
    other = Clip("b", "folder", "train", "a", 3, 25.0, 8)
    with pytest.raises(ValueError, match="x of clip b"):
        writer.add(other, np.zeros((3, 8, 8, 3), np.uint8), {"x": np.zeros((3, 4))})


def test_remote_store_through_a_bounded_cache(tmp_path: Path, make_store: Callable) -> None:
    local = make_store(tmp_path / "store", [200, 200, 200], size=64, shard_bytes=1_500_000)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "store"), "/corpus", recursive=True)
    remote = Store.open("memory://corpus", cache=tmp_path / "cache", cache_bytes=3 * 2**20)
    for number in (0, 1, 2, 0):
        clip = remote.clips[number]
        np.testing.assert_array_equal(remote.frames(clip), local.frames(clip))
        np.testing.assert_array_equal(remote.array(clip, "mel", 40, 56), local.array(clip, "mel", 40, 56))
        np.testing.assert_array_equal(remote.array(clip, "waveform"), local.array(clip, "waveform"))
    cached = list((tmp_path / "cache").rglob("shards*"))
    assert cached and sum(file.stat().st_size for file in cached) <= 3 * 2**20
    # what is cached is not fetched again
    clip = remote.clips[0]
    remote.frames(clip, 0, 2)
    memory.rm("/corpus", recursive=True)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(remote)).frames(clip, 0, 2), local.frames(clip, 0, 2)
    )
    with pytest.raises(FileError, match="no such file"):
        RemoteShards("memory://corpus", tmp_path / "cache")


def test_blocks_of_older_versions_do_not_stay(tmp_path: Path, make_store: Callable) -> None:
    """A store that is made anew again and again leaves no more than the cache may hold, and nothing stale."""
    memory = fsspec.filesystem("memory")
    cache, limit = tmp_path / "cache", 4 * 2**20
    (cache / "of-others").mkdir(parents=True)
    (cache / "of-others" / "picture.png").write_bytes(bytes(5 * 2**20))
    folders: list[set[Path]] = []
    for version in range(3):
        local = make_store(tmp_path / f"{version}", [200 + version, 200, 200], size=64, shard_bytes=1_500_000)
        memory.put(str(tmp_path / f"{version}"), "/anew", recursive=True)
        before = set(cache.glob("blocks-*"))
        remote = Store.open("memory://anew", cache=cache, cache_bytes=limit)
        for clip in remote.clips:
            np.testing.assert_array_equal(remote.frames(clip), local.frames(clip))
        folders.append(set(cache.glob("blocks-*")) - before)
        assert len(folders[-1]) == 1  # versions do not share blocks
        memory.rm("/anew", recursive=True)
    sizes = [sum(file.stat().st_size for folder in made for file in folder.iterdir()) for made in folders]
    assert sum(sizes) <= limit
    assert sizes[0] < sizes[2]  # the oldest went first
    assert (cache / "of-others" / "picture.png").is_file()


def test_a_damaged_description_is_named(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "store/store.json"
    for content in (file.read_bytes()[:100], b"[]", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(FileError, match=r"store\.json"):
            Store.open(tmp_path / "store")


def test_a_server_that_gives_whole_files_only_is_told(
    tmp_path: Path, make_store: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "store", [200, 200, 200], size=64, shard_bytes=10_000_000)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "store"), "/whole", recursive=True)
    remote = Store.open("memory://whole", cache=tmp_path / "cache")
    shard = (tmp_path / "store" / remote.clips[0].shard).read_bytes()
    assert len(shard) > 2**20
    monkeypatch.setattr(RemoteShards, "_fetch", lambda self, name, start=None, stop=None, fault=None: shard)
    with pytest.raises(FileError, match="whole files only"):
        remote.frames(remote.clips[0], 0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("fps"),
        lambda d: d.update(size="48"),
        lambda d: d["streams"].pop("frames.index"),
        lambda d: d["streams"]["mel"].pop("row"),
        lambda d: d["streams"]["mel"].update(row="80"),
        lambda d: d["streams"]["mel"].update(row=[10**11]),
        lambda d: d["streams"]["mel"].update(dtype="float33"),
        lambda d: d["streams"]["mel"].update(dtype="O"),
        lambda d: d["streams"]["mel"].update(time_last=None),
        lambda d: d["shards"][0].update(bytes="many"),
        lambda d: d.update(manifest_sha256=5),
    ],
)
def test_a_damaged_description_is_refused(
    change: Callable[[dict[str, Any]], object], make_store: Callable[..., Store], tmp_path: Path
) -> None:
    make_store(tmp_path, [12])
    description = json.loads((tmp_path / "store.json").read_text())
    change(description)
    (tmp_path / "store.json").write_text(json.dumps(description))
    with pytest.raises(FileError, match=r"store\.json"):
        store = Store.open(tmp_path)
        store.array(store.clips[0], "mel")


def test_a_shard_that_is_cut_while_it_is_open_is_an_error_and_no_crash(
    make_store: Callable[..., Store], tmp_path: Path
) -> None:
    store = make_store(tmp_path, [12])
    assert len(store.frames(store.clips[0], 0, 2)) == 2
    (tmp_path / store.clips[0].shard).open("w").close()
    with pytest.raises(FileError, match="cut short: 0 bytes"):
        store.frames(store.clips[0], 2, 4)
