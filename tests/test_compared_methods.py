"""The registry of methods, and rows that stand in every table of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.compared_methods import METHODS, method_of, newest_methods
from talkgen.data.store import Store
from talkgen.evaluation import choose_runs
from talkgen.inference.contenders import Casting, CopiedMouth
from talkgen.metrics.contenders import AtSize, FirstFrame, Generated, GroundTruth, OtherSound
from talkgen.metrics.footage import Footage
from talkgen.metrics.held_out import HeldOutClips, sound_of
from talkgen.metrics.psnr import PSNR
from talkgen.metrics.scoring import score


@pytest.fixture
def clips(tiny_store: Path) -> HeldOutClips:
    store = Store.open(tiny_store)
    return HeldOutClips(store, store.clips[:2], 32, frames=20, piece=8)


def finished(run: Path, age: int) -> None:
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    last = run / "checkpoints" / "last.ckpt"
    last.touch()
    os.utime(last, (10**9 - age, 10**9 - age))


def test_the_newest_folder_of_every_method(tmp_path: Path) -> None:
    finished(tmp_path / "old/swaptalk_lip_sync", 50)
    finished(tmp_path / "new/swaptalk_face_swap", 40)
    finished(tmp_path / "new/swaptalk_vqgan", 1)
    finished(tmp_path / "other/diff2lip_diffusion", 60)
    finished(tmp_path / "loose", 0)
    assert method_of(tmp_path / "new") == "swaptalk" and method_of(tmp_path / "loose") is None
    assert newest_methods(tmp_path) == [tmp_path / "new", tmp_path / "other"]
    assert [run.path.name for run in choose_runs(tmp_path, None, [])] == ["new", "other"]
    assert [run.path.name for run in choose_runs(tmp_path / "loose/..", "loose", [])] == ["loose"]


def test_every_method_names_a_module_that_is_there() -> None:
    from importlib.util import find_spec

    assert {"swaptalk", "diff2lip", "disenttalk"} <= METHODS.keys()
    for method in METHODS.values():
        assert find_spec(method.module) is not None and method.stages


class Bright:
    """White frames at its own size, with a truth, in the pieces of its own clips."""

    name, in_video = "bright", True

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        for start, stop in clips.spans(number):
            frames = torch.full((stop - start, clips.size, clips.size, 3), 255, dtype=torch.uint8)
            yield Generated(frames, truth=frames // 2)


def test_smaller_frames_are_enlarged(clips: HeldOutClips) -> None:
    own = HeldOutClips(clips.store, clips.clips, 16, clips.limit, clips.piece)
    pieces = list(AtSize(Bright(), own).generate(clips, 0))
    assert [len(piece.frames) for piece in pieces] == [8, 8, 4]
    for piece in pieces:
        assert piece.frames.shape[1:] == (32, 32, 3) and (piece.frames == 255).all()
        assert piece.truth is not None and (piece.truth == 127).all()


def test_baselines_without_a_model(clips: HeldOutClips) -> None:
    casting = Casting(clips, [clip.identity for clip in clips.clips])
    whole = torch.cat([clips.frames(0, *span) for span in clips.spans(0)])
    copied = torch.cat([piece.frames for piece in CopiedMouth(casting).generate(clips, 0)])
    assert torch.equal(copied[:, :16], whole[:, :16])
    (number,) = casting.references(0, 1)
    later = HeldOutClips(clips.store, clips.clips, 32).frames(0, number, number + 1)
    assert number >= 20 and torch.equal(copied[:, 16:], later[:, 16:].expand(20, -1, -1, -1))
    held = torch.cat([piece.frames for piece in FirstFrame().generate(clips, 0)])
    assert torch.equal(held, whole[:1].expand(20, -1, -1, -1))


class Listener(PSNR):
    """Keeps the sound that it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.needs = frozenset({"sound"})
        self.heard: list[torch.Tensor] = []

    def update(self, footage: Footage) -> None:
        assert footage.sound is not None
        self.heard.append(footage.sound)


def test_columns_that_listen_hear_what_drove_the_frames(clips: HeldOutClips, tmp_path: Path) -> None:
    casting = Casting(clips, [clip.identity for clip in clips.clips])
    rows = [[Listener(), PSNR()], [Listener(), PSNR()]]
    seen = score([GroundTruth(), OtherSound(casting.sound)], rows, clips, None, tmp_path)
    assert seen == [2, 2]
    own, other = (torch.cat(row[0].heard[:3]) for row in rows)  # type: ignore[attr-defined]
    stored = [clips.store.array(clip, "waveform") / np.float32(32768) for clip in clips.clips]
    np.testing.assert_allclose(own, stored[0][: 20 * 640], atol=1e-6)
    half = clips.clips[1].frames // 2 * 640  # where another clip's sound begins
    np.testing.assert_allclose(other, np.roll(stored[1], -half)[: 20 * 640], atol=1e-6)
    assert rows[0][1].per_clip() and not rows[1][1].per_clip()  # the frames alone say nothing new


def test_sound_beyond_the_end_is_silence(clips: HeldOutClips) -> None:
    clip = clips.clips[0]
    sound = sound_of(clips.store, clip, clip.frames - 2, clip.frames + 3)
    assert sound is not None and sound.shape == (5 * 640,)
    assert sound[: 2 * 640].any() and not sound[2 * 640 :].any()
