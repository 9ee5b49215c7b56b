"""Arrays of a store that are computed once: made, resumed, refused for another key."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from talkgen.audio.frame_features import FrameFeatures
from talkgen.data.array_cache import ArrayCache
from talkgen.data.clip import Clip
from talkgen.data.coefficient_cache import fit_store
from talkgen.data.speech_cache import hear_store
from talkgen.data.store import Store
from talkgen.errors import FileError


@pytest.fixture
def store(tiny_store: Path) -> Store:
    return Store.open(tiny_store)


def numbered(clip: Clip) -> np.ndarray:
    """Rows that say where they belong."""
    person = float(clip.id[6])
    return np.stack([np.full(clip.frames, person), np.arange(clip.frames)], 1).astype(np.float32)


def test_rows_are_found_again(store: Store, tmp_path: Path) -> None:
    cache = ArrayCache.build(tmp_path, store, "a", numbered, "test", progress=False)
    again = pickle.loads(pickle.dumps(ArrayCache.open(tmp_path)))
    for clip in store.clips:
        np.testing.assert_array_equal(again.array(clip.id), numbered(clip))
    np.testing.assert_array_equal(cache.array("person3/clip", 5, 7), [[3, 5], [3, 6]])
    assert cache.dim == 2 and "person3/clip" in cache and "nobody" not in cache
    with pytest.raises(IndexError, match="40 rows"):
        cache.array("person3/clip", 0, 41)


def test_a_killed_build_goes_on_where_it_was(store: Store, tmp_path: Path) -> None:
    made: list[str] = []

    def dies(clip: Clip) -> np.ndarray:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(clip.id)
        return numbered(clip)

    with pytest.raises(KeyboardInterrupt):
        ArrayCache.build(tmp_path, store, "a", dies, "test", progress=False)
    with pytest.raises(FileError, match="no complete"):
        ArrayCache.open(tmp_path)
    rest: list[str] = []
    cache = ArrayCache.build(
        tmp_path, store, "a", lambda clip: (rest.append(clip.id), numbered(clip))[1], "test", progress=False
    )
    assert made + rest == [clip.id for clip in store.clips]
    np.testing.assert_array_equal(cache.array("person0/clip"), numbered(store.clips[0]))
    assert not (tmp_path / "parts").exists()


def test_parts_of_another_key_are_not_taken(store: Store, tmp_path: Path) -> None:
    def dies(clip: Clip) -> np.ndarray:
        if clip.id.startswith("person2"):
            raise KeyboardInterrupt
        return numbered(clip) + 100

    with pytest.raises(KeyboardInterrupt):
        ArrayCache.build(tmp_path, store, "old", dies, "test", progress=False)
    cache = ArrayCache.build(tmp_path, store, "new", numbered, "test", progress=False)
    assert cache.array("person1/clip")[0, 0] == 1
    with pytest.raises(FileError, match="another corpus or another network"):
        ArrayCache.build(tmp_path, store, "other", numbered, "test", progress=False)


def test_coefficients_are_fitted_or_read(store: Store, tmp_path: Path) -> None:
    class Fitter:
        sha256 = "abc"

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def __call__(self, landmarks: np.ndarray, crop: object) -> np.ndarray:
            self.sizes.append(crop.size)  # type: ignore[attr-defined]
            return np.repeat(landmarks[:, :1, :1].reshape(-1, 1), 257, 1)

    fitter = Fitter()
    cache = fit_store(tmp_path / "fitted", store, fitter, progress=False)
    assert set(fitter.sizes) == {store.clips[0].size} and len(fitter.sizes) == len(store.clips)
    first = store.array(store.clips[0], "landmarks")[:, 0, 0]
    np.testing.assert_allclose(cache.array(store.clips[0].id)[:, 5], first)
    read = fit_store(tmp_path / "read", store, fitter, array="mel", progress=False)
    assert len(fitter.sizes) == len(store.clips)
    np.testing.assert_array_equal(read.array(store.clips[0].id), store.array(store.clips[0], "mel"))


def test_every_frame_hears(store: Store, tmp_path: Path) -> None:
    heard = hear_store(tmp_path, store, FrameFeatures("mel"), progress=False)
    clip = store.clips[2]
    waveform = store.array(clip, "waveform") / 32768
    np.testing.assert_array_equal(heard.array(clip.id), FrameFeatures()(waveform, clip.frames))
