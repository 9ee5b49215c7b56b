"""Clips of turned heads: rendered, stored as a preparation would, and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from talkgen.data.corpora.demo_casting import DemoSettings, plan_take
from talkgen.data.corpora.demo_turned import write_turned_store
from talkgen.faces.crop import CROPS


def test_heads_turn_and_mouths_do_as_before(tmp_path: Path) -> None:
    settings = DemoSettings(
        identities=2, clips_per_identity=1, swaps_per_identity=0, seconds=1.0, size_pixels=64
    )
    plans = [plan_take(settings, 1, 0)]
    crop = replace(CROPS["close"], size=48)
    stores = [write_turned_store(tmp_path / str(yaw), plans, settings, yaw, crop) for yaw in (0.0, 40.0)]
    straight, turned = (store.array(store.clips[0], "landmarks") for store in stores)
    assert straight.shape == turned.shape == (25, 68, 2)
    # Where the tip of the nose lies between the outer corners of the eyes: the middle, and to one side.
    places = [((p[:, 30, 0] - p[:, 36, 0]) / (p[:, 45, 0] - p[:, 36, 0])).mean() for p in (straight, turned)]
    assert abs(places[1] - 0.5) > abs(places[0] - 0.5) + 0.2
    clip = stores[1].clips[0]
    assert (clip.split, clip.size, clip.frames) == ("test", 48, 25)
    sounds = [store.array(store.clips[0], "waveform") for store in stores]
    np.testing.assert_array_equal(*sounds)
    assert len(sounds[0]) == 16000 and stores[1].array(clip, "mel").shape == (80, 80)
    frames = stores[1].frames(clip)
    assert frames.shape == (25, 48, 48, 3) and frames.std() > 20
    manifest = (tmp_path / "40.0/store.json").stat().st_mtime_ns
    again = write_turned_store(tmp_path / "40.0", plans, settings, 40.0, crop)
    assert (tmp_path / "40.0/store.json").stat().st_mtime_ns == manifest and len(again.clips) == 1
