from __future__ import annotations

from itertools import chain

import numpy as np

from talkgen.faces.shots import shot_boundaries
from talkgen.video.reader import read_frames


def test_a_cut_between_two_real_clips_is_found(clips):
    by_name = {clip.stem: clip for clip in clips}
    # The same studio and backdrop behind two anchors; other people; other sizes.
    for first, second in (("kanghui", "yanyuxin"), ("grid_bbaf2n", "grid_lwbsza"), ("may", "hartzler")):
        for a, b in ((first, second), (second, first)):
            frames = chain(
                read_frames(by_name[a], seconds=1.2),
                read_frames(by_name[b], seconds=0.8),
                read_frames(by_name[a], seconds=0.4),
            )
            assert list(shot_boundaries(frames)) == [30, 50], (a, b)


def test_real_clips_have_no_cut(clips):
    for clip in clips[::3]:
        assert list(shot_boundaries(read_frames(clip))) == [], clip


def test_it_streams():
    """A boundary comes as soon as its frame has been read, and frames are not kept."""
    read = 0

    def frames():
        nonlocal read
        for index in range(1000):
            read += 1
            yield np.full((90, 160, 3), 40 if index < 10 else 200, np.uint8)

    assert next(shot_boundaries(frames())) == 10
    assert read == 11


def test_motion_noise_and_light_are_no_cuts():
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (12, 40, 3), dtype=np.uint8), np.ones((15, 15, 1), np.uint8))
    panning = [scene[:, 8 * i : 8 * i + 240] for i in range(40)]
    assert list(shot_boundaries(panning)) == []
    noise = [np.clip(scene + rng.normal(0, 20, scene.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    assert list(shot_boundaries(noise)) == []
    brighter = [np.clip(scene * (0.4 + 0.02 * i), 0, 255).astype(np.uint8) for i in range(40)]
    assert list(shot_boundaries(brighter)) == []


def test_short_and_empty_videos():
    assert list(shot_boundaries([])) == []
    assert list(shot_boundaries([np.zeros((8, 8, 3), np.uint8)])) == []
