from __future__ import annotations

import csv
import dataclasses
import hashlib
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from square_faces import SquareDetector, SquareLandmarker, face_points, film, speech

from talkgen import weights
from talkgen.audio.alignment import sample_range
from talkgen.audio.mel import mel_spectrogram
from talkgen.data import clip_preparation, files
from talkgen.data import prepare as prepare_module
from talkgen.data.clip import RawClip
from talkgen.data.clip_preparation import PrepareSettings
from talkgen.data.corpora import folder
from talkgen.data.executors import ProcessExecutor, SerialExecutor, WorkerDied, make_executor
from talkgen.data.filters import FilterSettings, sharpness, yaw_degrees
from talkgen.data.prepare import Outcome, estimate_bytes, prepare
from talkgen.data.store import Fragment, Store
from talkgen.data.store_report import check_store
from talkgen.data.voice import SileroSpeechRatio, energy_speech_ratio
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.crop import transform_points


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_preparation, "make_detector", lambda name: SquareDetector())
    monkeypatch.setattr(clip_preparation, "make_landmarker", lambda name: SquareLandmarker())
    prepare_module._preparer.cache_clear()


def settings(**changes: Any) -> PrepareSettings:
    limits = {"min_seconds": 0.8, "min_face_pixels": 20.0, "min_sharpness": 0.0}
    filters = FilterSettings(**{**limits, **changes.pop("filters", {})})
    return PrepareSettings(**{"size": 48, "speech": "energy", "filters": filters, **changes})


def prepare_here(raw: list[RawClip], source: Path, out: Path, **changes: Any) -> Outcome:
    """Prepare in this process."""
    arguments = {"settings": settings(), "executor": SerialExecutor(), "progress": False, **changes}
    return prepare(raw, source, out, **arguments)


def run(source: Path, out: Path, **changes: Any) -> Outcome:
    return prepare(
        folder.find_clips(source),
        source,
        out,
        settings(**changes),
        SerialExecutor(),
        progress=False,
        disk_check=False,
    )


# --- one clip
# --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("squares")
def test_a_clip_becomes_crops_sound_and_landmarks(tmp_path: Path) -> None:
    sound = speech(2.0)
    film(tmp_path / "raw/anna.mp4", 50, sound=sound)
    outcome = run(tmp_path / "raw", tmp_path / "out")
    assert outcome.rejects == []
    clip = outcome.store.clip("anna")
    assert (clip.frames, clip.fps, clip.size, clip.raw, clip.video) == (50, 25.0, 48, "anna", "anna.mp4")
    assert clip.checks["face_found_ratio"] == 1 and clip.checks["face_size_pixels"] == pytest.approx(
        60, abs=2
    )
    assert 0.5 < clip.checks["speech_ratio"] <= 1
    frames = outcome.store.frames(clip)
    # the square is as high as a face, so it fills 1 / 1.3 of the crop, and its colour stays what it was
    red = (frames[..., 0] > 150) & (frames[..., 2] < 140)
    assert red.mean() == pytest.approx(1 / 1.3**2, abs=0.1)
    waveform = outcome.store.array(clip, "waveform")
    assert len(waveform) == 50 * 640
    mel = outcome.store.array(clip, "mel")
    assert mel.shape == (80, 161)
    np.testing.assert_allclose(mel, mel_spectrogram(waveform / np.float32(32768)), atol=0.05)
    matrix = outcome.store.array(clip, "crop_matrix")
    corners = transform_points(matrix[7], np.array([[40 + 7, 50], [40 + 7 + 60, 110]]))
    landmarks = outcome.store.array(clip, "landmarks")
    np.testing.assert_allclose(landmarks[7, [0, 67]], corners, atol=1.5)
    warp = outcome.store.array(clip, "identity_warp")
    keypoints = transform_points(matrix[7], face_points(np.array([47, 50, 107, 110])))
    np.testing.assert_allclose(transform_points(warp[7], keypoints), ARCFACE_TEMPLATE, atol=3)


@pytest.mark.usefixtures("squares")
def test_shots_pieces_and_gaps(tmp_path: Path) -> None:
    def face(k: int) -> tuple[int, int, int] | None:
        if k in (20, 21, 22):
            return None  # a few frames without a face never end a clip
        return (30, 40, 60) if k < 60 else (80, 70, 50)

    film(tmp_path / "raw/a.mp4", 125, face=face, sound=speech(5), ground=lambda k: 60 if k < 60 else 200)
    outcome = run(tmp_path / "raw", tmp_path / "out", max_seconds=2.0)
    clips = outcome.store.clips
    assert [(clip.id, clip.frames, clip.start_seconds) for clip in clips] == [
        ("a#1", 30, 0.0), ("a#2", 30, 1.2), ("a#3", 32, 2.4), ("a#4", 33, 3.68),
    ]  # fmt: skip
    assert clips[0].checks["face_found_ratio"] == pytest.approx(57 / 60, abs=0.001)
    # frames and sound of a piece are those of its place: the left edge of frame k has grey level k
    whole = speech(5)
    for clip in clips:
        first = round(clip.start_seconds * 25)
        samples = sample_range(first, clip.frames)
        heard = outcome.store.array(clip, "waveform") / 32768
        assert np.corrcoef(heard, whole[samples.start : samples.stop])[0, 1] > 0.9
        points = transform_points(outcome.store.array(clip, "crop_matrix"), np.array([[30.0, 40.0]]))
        assert np.isfinite(points).all()
    assert np.isfinite(outcome.store.array(clips[0], "landmarks")).all()


@pytest.mark.usefixtures("squares")
def test_other_frame_rates_become_25(tmp_path: Path) -> None:
    film(tmp_path / "raw/a.mp4", 60, fps=30, sound=speech(2))
    clip = run(tmp_path / "raw", tmp_path / "out").store.clips[0]
    assert (clip.frames, clip.fps) == (50, 25.0)


@pytest.mark.usefixtures("squares")
def test_sparse_detection_keeps_the_crop(tmp_path: Path) -> None:
    film(tmp_path / "raw/a.mp4", 50, face=lambda k: (30 + k // 2, 50, 60), sound=speech(2))
    every = run(tmp_path / "raw", tmp_path / "every").store
    third = run(tmp_path / "raw", tmp_path / "third", detect_every=3).store
    assert third.clips[0].frames >= 48 and third.clips[0].checks["face_found_ratio"] == 1
    several = every.array(every.clips[0], "crop_matrix")[: third.clips[0].frames]
    np.testing.assert_allclose(third.array(third.clips[0], "crop_matrix"), several, atol=2)


@pytest.mark.usefixtures("squares")
def test_everything_left_out_has_a_reason(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    film(raw / "good.mp4", 50, sound=speech(2))
    film(raw / "mute.mp4", 50)
    film(raw / "nobody.mp4", 50, face=lambda k: None, sound=speech(2))
    film(raw / "now_and_then.mp4", 50, face=lambda k: (40, 50, 60) if k % 3 == 0 else None, sound=speech(2))
    film(raw / "quiet.mp4", 50, sound=np.zeros(32000, np.float32))
    film(raw / "short.mp4", 12, sound=speech(0.5))
    film(raw / "tiny.mp4", 50, face=lambda k: (40, 50, 18), sound=speech(2))
    film(raw / "early_end.mp4", 50, sound=speech(1))
    (raw / "text.mp4").write_text("no video at all")
    cut_off = film(raw / "cut_off.mp4", 50, sound=speech(2)).read_bytes()
    (raw / "cut_off.mp4").write_bytes(cut_off[: len(cut_off) // 2])
    outcome = run(raw, tmp_path / "out", filters={"min_face_pixels": 30.0, "min_face_found": 0.8})
    assert [clip.id for clip in outcome.store.clips] == ["good"]
    assert {reject.clip.split(" ")[0]: reject.stage for reject in outcome.rejects} == {
        "mute": "audio", "nobody": "face", "now_and_then": "face_found_ratio", "quiet": "speech_ratio",
        "short": "length", "tiny": "face_size_pixels", "early_end": "audio", "text": "probe",
        "cut_off": outcome.rejects[0].stage,
    }  # fmt: skip
    assert outcome.rejects[0].clip == "cut_off" and outcome.rejects[0].stage in ("probe", "decode")
    with (tmp_path / "out/rejects.csv").open() as handle:
        rows = {row["clip"].split(" ")[0]: row for row in csv.DictReader(handle)}
    assert rows["tiny"]["reason"].startswith("face of 1") and "at least 30" in rows["tiny"]["reason"]
    assert rows["nobody"]["file"] == "nobody.mp4"


@pytest.mark.usefixtures("squares")
def test_nothing_kept_is_an_error_that_says_why(tmp_path: Path) -> None:
    film(tmp_path / "raw/mute.mp4", 50)
    with pytest.raises(TalkgenError, match=r"all 1 clips were left out \(audio 1\)"):
        run(tmp_path / "raw", tmp_path / "out")


def early_expert() -> Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, float]]:
    """An expert that takes the sound of every clip to be 3 frames early."""

    def measure(frames: np.ndarray, waveform: np.ndarray, landmarks: np.ndarray) -> tuple[float, float]:
        assert frames.dtype == np.uint8 and frames.shape[1:] == (48, 48, 3)
        assert len(waveform) == len(frames) * 640 and landmarks.shape == (len(frames), 68, 2)
        assert np.abs(landmarks.mean((0, 1)) - 24).max() < 6  # pixels of the crop: around its middle
        return 3.0, 7.0

    return measure


@pytest.mark.usefixtures("squares")
def test_sound_is_moved_by_what_an_expert_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_preparation, "early_expert", early_expert, raising=False)
    name = "talkgen.data.clip_preparation:early_expert"
    film(tmp_path / "raw/a.mp4", 50, sound=speech(2))
    plain = run(tmp_path / "raw", tmp_path / "plain").store
    moved = run(tmp_path / "raw", tmp_path / "moved", av_expert=name).store
    kept = run(tmp_path / "raw", tmp_path / "kept", av_expert=name, correct_av_offset=False).store
    before, after, as_was = (store.array(store.clips[0], "waveform") for store in (plain, moved, kept))
    np.testing.assert_array_equal(after[3 * 640 :], before[: -3 * 640])
    assert not after[: 3 * 640].any()
    np.testing.assert_array_equal(as_was, before)
    assert moved.clips[0].checks["av_offset_frames"] == 3 and moved.clips[0].checks["av_confidence"] == 7
    with pytest.raises(TalkgenError, match=r"left out \(av_offset_frames 1\)"):
        run(tmp_path / "raw", tmp_path / "far", av_expert=name, filters={"max_av_offset_frames": 2})
    with pytest.raises(TalkgenError, match=r"left out \(av_confidence 1\)"):
        run(tmp_path / "raw", tmp_path / "unsure", av_expert=name, filters={"min_av_confidence": 8})
    with pytest.raises(TalkgenError, match="module:function"):
        run(tmp_path / "raw", tmp_path / "none", av_expert="talkgen.nothing:here")


def test_truth_makes_detection_needless_and_crops_a_swap_like_its_target(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", 50, sound=speech(2))
    film(tmp_path / "swap.mp4", 50, sound=speech(2))
    rng = np.random.default_rng(0)
    for name, spread in (("a", 50.0), ("swap", 70.0)):
        base = np.concatenate([rng.uniform(40, 40 + spread, (68, 2))])
        base[36:42], base[42:48], base[30] = (50, 70), (80, 70), (65, 85)
        base[48], base[54] = (53, 100), (77, 100)
        points = base + np.arange(50)[:, None, None] * 0.2
        truth = {"truth_opening": np.arange(50, dtype=np.float32), "truth_identity": rng.normal(size=7)}
        np.savez(tmp_path / f"{name}.npz", landmarks=points.astype(np.float32), **truth)
    raw = [
        RawClip("a", "demo", "train", "a.mp4", "anna", truth="a.npz"),
        RawClip("swap", "demo", "train", "swap.mp4", "ben", truth="swap.npz", swap_of="a"),
    ]
    store = prepare(
        raw, tmp_path, tmp_path / "out", settings(max_seconds=1.7), SerialExecutor(), progress=False
    ).store
    assert [(clip.id, clip.swap_of) for clip in store.clips] == [
        ("a#1", None), ("a#2", None), ("swap#1", "a#1"), ("swap#2", "a#2"),
    ]  # fmt: skip
    for target, swapped in zip(store.clips[:2], store.clips[2:], strict=True):
        matrix = store.array(target, "crop_matrix")
        np.testing.assert_array_equal(matrix, store.array(swapped, "crop_matrix"))
    with np.load(tmp_path / "swap.npz") as truth_of_swap:
        expected = transform_points(
            store.array(store.clips[3], "crop_matrix"), truth_of_swap["landmarks"][25:]
        )
    np.testing.assert_allclose(store.array(store.clips[3], "landmarks"), expected, atol=1e-3)
    np.testing.assert_array_equal(store.array(store.clips[3], "truth_opening"), np.arange(25, 50))
    assert store.array(store.clips[3], "truth_identity").shape == (7,)


def test_real_clips(shared: Path, tmp_path: Path) -> None:
    for name in ("scrfd_500m", "landmarks_106"):
        if not weights.available(name):
            pytest.skip(f"needs the weights {name}")
    (tmp_path / "raw").mkdir()
    for name in ("grid_lwbsza", "rdradio10"):
        (tmp_path / "raw" / f"{name}.mp4").symlink_to(shared / "realclips" / "clips" / f"{name}.mp4")
    store = prepare(
        folder.find_clips(tmp_path / "raw"), tmp_path / "raw", tmp_path / "out",
        PrepareSettings(size=96, speech="energy"), SerialExecutor(), progress=False,
    ).store  # fmt: skip
    assert len(store) == 2
    for clip in store.clips:
        landmarks = store.array(clip, "landmarks")
        assert landmarks.min() > 0 and landmarks.max() < 96
        eyes, mouth = landmarks[:, 36:48, 1].mean(), landmarks[:, 48:68, 1].mean()
        assert eyes == pytest.approx(0.44 * 96, abs=5) and mouth > 58  # the cut between halves is at 48


# --- measures
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [-40, -20, 0, 15, 30])
def test_yaw_of_a_turned_head(angle: float) -> None:
    # eyes and mouth on a plane, the nose half an eye distance before it
    head = np.array([[-1, -1, 0], [1, -1, 0], [0, 0, 1.0], [-0.8, 1, 0], [0.8, 1, 0]])
    turn = np.radians(angle)
    seen = head[:, :2].copy()
    seen[:, 0] = head[:, 0] * np.cos(turn) + head[:, 2] * np.sin(turn)
    assert yaw_degrees(seen) == pytest.approx(angle, abs=1)


def test_sharpness_falls_with_blur_and_not_with_size() -> None:
    import cv2

    rng = np.random.default_rng(0)
    sharp = cv2.resize(rng.integers(0, 255, (64, 64, 3), np.uint8), (256, 256), interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(sharp, (16, 16), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(small, (256, 256), interpolation=cv2.INTER_CUBIC)
    assert sharpness(sharp) > 4 * sharpness(blurred)
    double = cv2.resize(sharp, (512, 512), interpolation=cv2.INTER_CUBIC)
    assert sharpness(double) == pytest.approx(sharpness(sharp), rel=0.1)


def test_energy_tells_sound_from_silence() -> None:
    sound = speech(2)
    assert 2 / 3 <= energy_speech_ratio(sound) < 0.85  # a piece that is loud in part counts
    assert energy_speech_ratio(np.zeros(32000, np.float32)) == 0
    assert energy_speech_ratio(0.001 * sound) == 0
    assert energy_speech_ratio(np.zeros(100, np.float32)) == 0
    half = np.concatenate([sound, 1e-4 * sound])
    assert energy_speech_ratio(half) == pytest.approx(energy_speech_ratio(sound) / 2, abs=0.02)


def test_silero_tells_speech_from_noise(shared: Path) -> None:
    if not weights.available("silero_vad"):
        pytest.skip("needs the weights silero_vad")
    from talkgen.audio.waveform import load_waveform

    ratio = SileroSpeechRatio()
    assert ratio(load_waveform(shared / "realclips/clips/kanghui.mp4")) > 0.7
    assert ratio(0.3 * np.random.default_rng(0).normal(size=32000).astype(np.float32)) < 0.2
    assert ratio(np.zeros(100, np.float32)) == 0


# --- the whole corpus: repeat, refuse, kill, resume
# ---------------------------------------------------------------


def digests(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


def truth_corpus(root: Path, clips: int) -> list[RawClip]:
    """Clips with truth, so that processes need neither networks nor the squares' detector; every fifth is
    broken.
    """
    film(root / "a.mp4", 30, sound=speech(1.2))
    points = np.tile(np.linspace([40, 40], [110, 110], 68, dtype=np.float32), (30, 1, 1))
    points[:, 36:42], points[:, 42:48] = (55, 60), (95, 60)
    points[:, [48, 54]] = [[60, 95], [90, 95]]
    np.savez(root / "a.npz", landmarks=points)
    (root / "broken.mp4").write_bytes(b"broken")
    return [
        RawClip(
            f"clip{n}", "folder", "train", "broken.mp4" if n % 5 == 3 else "a.mp4", f"id{n}", truth="a.npz"
        )
        for n in range(clips)
    ]


@pytest.mark.usefixtures("squares")
def test_running_again_does_nothing_and_changes_are_refused(tmp_path: Path) -> None:
    raw = truth_corpus(tmp_path / "raw", 3)
    source, out = tmp_path / "raw", tmp_path / "out"
    first = prepare_here(raw, source, out)
    before = digests(tmp_path / "out")
    again = prepare_here(raw, source, out)
    assert again.done_before == 3 and digests(tmp_path / "out") == before
    assert again.rejects == first.rejects
    with pytest.raises(TalkgenError, match=r"size: 48 → 64.*redo=true"):
        prepare_here(raw, source, out, settings=settings(size=64))
    with pytest.raises(TalkgenError, match="raw_clips: 3 → 2"):
        prepare_here(raw[:2], source, out)
    anew = prepare_here(raw, source, out, settings=settings(size=64), redo=True)
    assert anew.store.size == 64 and anew.done_before == 0


def test_the_disk_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = truth_corpus(tmp_path / "raw", 3)
    usage = type(prepare_module.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(prepare_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(TalkgenError, match="disk_check=false"):
        prepare(raw, tmp_path / "raw", tmp_path / "out", settings(), SerialExecutor(), progress=False)
    made = prepare(
        raw,
        tmp_path / "raw",
        tmp_path / "out",
        settings(),
        SerialExecutor(),
        progress=False,
        disk_check=False,
    )
    size = sum(shard["bytes"] for shard in made.store.description["shards"])
    assert size < estimate_bytes(raw, tmp_path / "raw", settings()) < 20 * size


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    raw = truth_corpus(tmp_path / "raw", 2)
    with prepare_module._only_one(tmp_path), pytest.raises(TalkgenError, match="another `talkgen prepare`"):
        prepare_here(raw, tmp_path / "raw", tmp_path)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.usefixtures("squares")
@pytest.mark.parametrize("after", [False, True], ids=["before a rename", "after a rename"])
def test_a_kill_at_any_rename_leaves_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    raw = truth_corpus(tmp_path / "raw", 6)

    def go(out: Path) -> None:
        prepare_here(raw, tmp_path / "raw", out, shard_bytes=150_000)

    go(tmp_path / "whole")
    assert len(list((tmp_path / "whole/shards").iterdir())) == 3
    expected = digests(tmp_path / "whole")
    rename = Path.replace
    left = 0

    def killing(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise Killed
        done = rename(self, target)
        if left == 0:
            raise Killed
        return done

    monkeypatch.setattr(files.Path, "replace", killing)
    for kill_at in range(1, 100):
        out = tmp_path / f"killed{kill_at}"
        left = kill_at
        try:
            go(out)
            break  # all renames were survived
        except Killed:
            left = -1
            go(out)
        assert digests(out) == expected, f"killed at rename {kill_at}"
    assert 15 < kill_at < 100


PROGRAM = """
import sys
from pathlib import Path
from talkgen.data.clip import RawClip
from talkgen.data.clip_preparation import PrepareSettings
from talkgen.data.executors import ProcessExecutor
from talkgen.data.filters import FilterSettings
from talkgen.data.manifest import read_manifest
from talkgen.data.prepare import prepare

if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    filters = FilterSettings(min_seconds=0.8, min_face_pixels=20.0, min_sharpness=0.0)
    settings = PrepareSettings(size=48, speech="energy", filters=filters)
    prepare(read_manifest(source / "raw.jsonl", RawClip), source, out, settings, ProcessExecutor(2),
            shard_bytes=150_000, progress=False)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_leaves_the_same_files(tmp_path: Path) -> None:
    from talkgen.data.manifest import write_manifest

    raw = truth_corpus(tmp_path / "raw", 40)
    write_manifest(tmp_path / "raw/raw.jsonl", raw)
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "raw")]

    def items(out: Path) -> int:
        return len(list((out / "work/items").rglob("*.json"))) if out.is_dir() else 0

    out = tmp_path / "killed"
    for wanted in (3, 20):
        process = subprocess.Popen([*command, str(out)], start_new_session=True)
        try:
            until = time.monotonic() + 120
            while items(out) < wanted:
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < until
                time.sleep(0.02)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert not (out / "store.json").exists()
    subprocess.run([*command, str(out)], check=True, timeout=120)
    prepare(
        raw,
        tmp_path / "raw",
        tmp_path / "whole",
        settings(),
        SerialExecutor(),
        shard_bytes=150_000,
        progress=False,
    )
    assert len(Store.open(out)) == 32
    assert digests(out) == digests(tmp_path / "whole")
    assert dict(check_store(Store.open(out), progress=False).faults) == {}


# --- executors
# -------------------------------------------------------------------------------------------------------


MORTAL = """
import os, signal
from talkgen.errors import FileError

def square_or_die(item):
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 100:
        raise FileError("item100", "cannot be had")
    return item * item

def threads(item):
    return os.environ["OMP_NUM_THREADS"]
"""


@pytest.mark.slow
def test_a_dying_worker_costs_one_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)  # a module that spawned processes can import
    monkeypatch.syspath_prepend(tmp_path)
    mortal = importlib.import_module("mortal")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    results = dict(ProcessExecutor(2).map(mortal.square_or_die, range(12)))
    assert sorted(results) == list(range(12))
    assert isinstance(results.pop(5), WorkerDied)
    assert results == {item: item * item for item in results}
    assert dict(ProcessExecutor(1).map(mortal.threads, [1])) == {1: "1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"
    with pytest.raises(FileError, match="item100: cannot be had"):
        list(ProcessExecutor(1).map(mortal.square_or_die, [100]))


@pytest.fixture(scope="module")
def two_ray_workers() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
        object_store_memory=100 * 2**20,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("two_ray_workers")
def test_ray_prepares_the_same_store(tmp_path: Path) -> None:
    raw = truth_corpus(tmp_path / "raw", 7)
    made = prepare_here(raw, tmp_path / "raw", tmp_path / "ray", executor=make_executor("ray"))
    assert len(made.store) == 6 and made.rejects[0].stage == "probe"
    prepare_here(raw, tmp_path / "raw", tmp_path / "serial")
    assert digests(tmp_path / "ray") == digests(tmp_path / "serial")
    with pytest.raises(TalkgenError, match="choose processes, serial or ray"):
        make_executor("slurm")


@dataclasses.dataclass
class Deadly:
    """An executor one of whose workers is killed in the middle of an item: so many times, then no more."""

    flags: Path
    item: int
    times: int

    def map(self, function: Callable[[Any], Any], items: Any) -> Iterator[tuple[Any, Any]]:
        flags, number, times = self.flags, self.item, self.times

        def work(job: Any) -> Any:
            died = len(list(flags.iterdir()))
            if job.number == number and died < times:
                from talkgen.data import prepare

                def die(file: Path, content: bytes) -> None:
                    (flags / str(died)).touch()
                    os.kill(os.getpid(), signal.SIGKILL)

                prepare.write_atomically = die  # type: ignore[assignment]  # clips are written, not yet described
            return function(job)

        return make_executor("ray").map(work, items)


@pytest.mark.slow
@pytest.mark.usefixtures("two_ray_workers")
def test_a_killed_ray_worker_costs_nothing(tmp_path: Path) -> None:
    """Nothing lost, nothing twice; and an item that kills its worker twice costs itself alone."""
    raw = truth_corpus(tmp_path / "raw", 9)
    whole = prepare_here(raw, tmp_path / "raw", tmp_path / "serial")
    for times in (1, 2):
        (flags := tmp_path / f"flags{times}").mkdir()
        out = tmp_path / f"ray{times}"
        made = prepare_here(raw, tmp_path / "raw", out, executor=Deadly(flags, 4, times))
        assert len(list(flags.iterdir())) == times
        ids = [clip.id for clip in made.store.clips]
        if times == 1:
            assert ids == [clip.id for clip in whole.store.clips] and len(set(ids)) == 7
            assert digests(out) == digests(tmp_path / "serial")
        else:
            assert ids == [clip.id for clip in whole.store.clips if clip.id != "clip4"]
            assert [reject.stage for reject in made.rejects] == ["probe", "worker", "probe"]
            assert "died twice" in made.rejects[1].reason
            assert not [fault for _, fault in made.store.verify() if fault]


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="no features clip"):
        PrepareSettings(features=("clip",))
    with pytest.raises(ValueError, match="no crop 'body'"):
        PrepareSettings(crop="body")
    with pytest.raises(TalkgenError, match="no speech detector"):
        prepare([RawClip("a", "folder", "train", "a", "a")], ".", "out", PrepareSettings(speech="loud"))
    assert PrepareSettings(size=96, crop="head").crop_settings.size == 96


# --- what a corpus may do to it
# --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("squares")
def test_one_clip_at_a_time_is_in_memory(tmp_path: Path) -> None:
    film(tmp_path / "long.mp4", 100, sound=speech(4.0))
    raw = folder.find_clips(tmp_path)[0]
    made = clip_preparation.ClipPreparer(tmp_path, settings(max_seconds=1.7)).prepare(raw)
    first = next(made)
    assert isinstance(first, Fragment) and first.clip.id == "long#1"
    reference = weakref.ref(first)
    del first
    second = next(made)
    assert isinstance(second, Fragment) and second.clip.id == "long#2"
    assert reference() is None


@pytest.mark.usefixtures("squares")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"text"])
def test_damaged_truth_leaves_one_clip_out(content: bytes, tmp_path: Path) -> None:
    for name in ("a", "b"):
        film(tmp_path / f"{name}.mp4", 50, sound=speech(2.0))
    (tmp_path / "a.npz").write_bytes(content)
    clips = [dataclasses.replace(clip, truth="a.npz" if clip.id == "a" else None)
             for clip in folder.find_clips(tmp_path)]  # fmt: skip
    outcome = prepare_here(clips, tmp_path, tmp_path / "out")
    assert [clip.id for clip in outcome.store.clips] == ["b"]
    assert [(reject.clip, reject.stage) for reject in outcome.rejects] == [("a", "truth")]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a#1")])
def test_clips_that_would_share_an_id_are_refused_at_once(names: tuple[str, str], tmp_path: Path) -> None:
    clips = [RawClip(name, "folder", "train", f"{k}.mp4", "x") for k, name in enumerate(names)]
    with pytest.raises(TalkgenError, match="rename one of them"):
        prepare_here(clips, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("squares")
def test_a_setting_may_be_put_right_while_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "raw/anna.mp4", 50, sound=speech(2.0))

    def refuse(name: str) -> None:
        raise TalkgenError(f"no detector {name}")

    with monkeypatch.context() as patched:
        patched.setattr(clip_preparation, "make_detector", refuse)
        with pytest.raises(TalkgenError, match="no detector typo"):
            run(tmp_path / "raw", tmp_path / "out", detector="typo")
    assert len(run(tmp_path / "raw", tmp_path / "out", detector="insightface").store) == 1


@pytest.mark.usefixtures("squares")
def test_odd_names_and_rates(tmp_path: Path) -> None:
    film(tmp_path / "raw/zwölf Uhr/a b\u2028c (1).mp4", 60, fps=30000 / 1001, sound=speech(2.1))
    film(tmp_path / "raw/short.mp4", 1, sound=speech(0.1))
    outcome = run(tmp_path / "raw", tmp_path / "ein Ort")
    assert [clip.id for clip in outcome.store.clips] == ["zwölf Uhr/a b\u2028c (1)"]
    assert outcome.store.clips[0].frames == 50
    assert [(reject.clip.split(" at ")[0], reject.stage) for reject in outcome.rejects] == [
        ("short", "length")
    ]
    assert check_store(outcome.store, progress=False).faults == []


@pytest.mark.usefixtures("squares")
def test_a_network_that_cannot_be_read_is_no_fault_of_the_clips(tmp_path: Path) -> None:
    film(tmp_path / "raw/anna.mp4", 50, sound=speech(2.0))
    with pytest.raises(TalkgenError, match="no such file"):
        run(tmp_path / "raw", tmp_path / "out", features=("whisper",), whisper=str(tmp_path / "gone.pt"))


def test_a_misspelt_detector_is_no_fault_of_the_clips(tmp_path: Path) -> None:
    film(tmp_path / "raw/anna.mp4", 50, sound=speech(2.0))
    prepare_module._preparer.cache_clear()
    with pytest.raises(TalkgenError, match="no face detector 'dlibb'; there are insightface"):
        run(tmp_path / "raw", tmp_path / "out", detector="dlibb")
