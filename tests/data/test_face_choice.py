"""Whose face becomes the clip, where a shot shows several."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from talkgen import weights
from talkgen.audio.waveform import load_waveform, save_waveform
from talkgen.data import clip_preparation
from talkgen.data import prepare as prepare_module
from talkgen.data.corpora import folder
from talkgen.data.executors import SerialExecutor
from talkgen.data.face_choice import frame_loudness, parse_choice
from talkgen.data.filters import FilterSettings
from talkgen.data.store import Store
from talkgen.errors import TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.preparation import main
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter

FRAMES = 75
LEFTS = {"small": 20, "large": 120, "middle": 250}  # x of the boxes; none is in the order of its size
SIDES = {"small": 40, "large": 80, "middle": 50}
LOUD = np.repeat(np.random.default_rng(5).integers(0, 2, FRAMES // 5), 5)  # by frames
TALK = np.random.default_rng(6).uniform(0, 1, FRAMES) * LOUD  # a mouth that moves when it is loud
CHEW = np.random.default_rng(7).uniform(0, 1, FRAMES) * (1 - LOUD)  # and one that moves when it is silent


class ThreeFaces:
    """Faces by the number of the frame, which is a third of the brightness of its top left corner."""

    def __init__(self, mouths: dict[str, np.ndarray]) -> None:
        self.mouths = mouths

    def detect(self, frame: np.ndarray) -> list[Face]:
        faces = []
        for name in ("large", "middle", "small"):
            x, side = LEFTS[name], SIDES[name]
            box = np.array([x, 40, x + side, 40 + side], np.float32)
            faces.append(Face(box, 0.9, (box[:2] + (ARCFACE_TEMPLATE - [11, 1]) / 110 * side).astype("f4")))
        # someone walks by: no second long, and left of all others
        number = self.number(frame)
        if 10 <= number < 20:
            faces.append(Face(np.array([0, 130, 15, 145], np.float32), 0.9, faces[0].keypoints * 0.2 + 100))
        return faces

    def landmarks(self, frame: np.ndarray, face: Face) -> np.ndarray:
        side = float(face.box[2] - face.box[0])
        points = np.linspace(face.box[:2], face.box[2:], 68).astype(np.float32)
        name = next((name for name, x in LEFTS.items() if x == face.box[0]), "small")
        gap = side * 0.2 * self.mouths[name][self.number(frame)]
        points[[61, 62, 63]] = points[[67, 66, 65]] - [0, gap]
        return points

    @staticmethod
    def number(frame: np.ndarray) -> int:
        return round(float(frame[:16, :16].mean()) / 3)


def prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose: str, mouths: dict[str, np.ndarray]
) -> str:
    """Which of the three faces was cropped."""
    for maker in ("make_detector", "make_landmarker"):
        monkeypatch.setattr(clip_preparation, maker, lambda name: ThreeFaces(mouths))
    prepare_module._preparer.cache_clear()
    sound = 0.3 * np.random.default_rng(0).normal(size=FRAMES * 640) * np.repeat(LOUD, 640)
    file = tmp_path / "raw/three.mp4"
    file.parent.mkdir(parents=True)
    with VideoWriter(file, 25, 320, 160, audio=(sound.astype(np.float32), 16000), crf=4) as writer:
        for number in range(FRAMES):
            frame = np.full((160, 320, 3), 90, np.uint8)
            frame[:16, :16] = 3 * number
            writer.write(frame)
    limits = ["min_sharpness=0", "min_face_pixels=10", "min_speech_ratio=0", "min_seconds=1"]
    assert main([
        "corpus=folder", f"source={tmp_path / 'raw'}", f"out={tmp_path / 'out'}", "executor=serial",
        "progress=false", "settings.size=48", "settings.speech=energy", f"settings.choose={choose}",
        *[f"settings.filters.{limit}" for limit in limits],
    ]) == 0  # fmt: skip
    store = Store.open(tmp_path / "out")
    matrix = store.array(store.clips[0], "crop_matrix")[0]
    x = float(np.linalg.solve(matrix[:, :2], 24 - matrix[:, 2])[0])  # middle of the crop in the video
    return min(LEFTS, key=lambda name: abs(LEFTS[name] + SIDES[name] / 2 - x))


STILL = np.full(FRAMES, 0.3)


@pytest.mark.parametrize(
    ("choose", "expected"),
    [("size", "large"), ("index:0", "small"), ("index:1", "large"), ("index:2", "middle")],
)
def test_by_size_and_from_the_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose: str, expected: str
) -> None:
    mouths = dict.fromkeys(LEFTS, STILL)
    assert prepared(tmp_path, monkeypatch, choose, mouths) == expected


@pytest.mark.parametrize("speaker", ["small", "middle"])
def test_the_speaker_is_who_moves_with_the_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speaker: str
) -> None:
    other = {"small": "middle", "middle": "small"}[speaker]
    mouths = {speaker: TALK, other: CHEW, "large": STILL}
    assert prepared(tmp_path, monkeypatch, "speaker", mouths) == speaker


def test_where_nobody_speaks_the_largest_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(tmp_path, monkeypatch, "speaker", dict.fromkeys(LEFTS, STILL)) == "large"


def test_a_face_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TalkgenError, match=r"left out \(face 1\)"):
        prepared(tmp_path, monkeypatch, "index:3", dict.fromkeys(LEFTS, STILL))
    assert "no face 3 from the left; there are 3" in (tmp_path / "out/rejects.csv").read_text()


def test_choices_are_checked() -> None:
    assert parse_choice("index:12") == 12 and parse_choice("speaker") == "speaker"
    for wrong in ("index", "index:-1", "index:x", "loudest", "size:1"):
        with pytest.raises(ValueError, match="index:N"):
            parse_choice(wrong)


def test_loudness_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a square wave of 0.1, 0.2, …; pieces make no difference; beyond the end it is silent."""
    monkeypatch.setattr("talkgen.data.face_choice._PIECE_SECONDS", 0.2)
    level = np.arange(1, 9) / 10
    save_waveform(tmp_path / "a.wav", np.repeat(level, 640).astype(np.float32), 16000)
    np.testing.assert_allclose(
        frame_loudness(tmp_path / "a.wav", 0.08, 12, 25), [*level[2:], *[0] * 6], atol=1e-3
    )


@pytest.mark.parametrize("speaker", [0, 1])
def test_two_people_of_whom_one_is_heard(shared: Path, tmp_path: Path, speaker: int) -> None:
    """Both faces talk; the sound is that of one of them."""
    for name in ("scrfd_500m", "landmarks_106"):
        if not weights.available(name):
            pytest.skip(f"needs the weights {name}")
    files = [shared / "realclips/clips" / f"{name}.mp4" for name in ("grid_lwbsza", "rdradio10")]
    people = [read_frames(file, fps=25, seconds=2.8) for file in files]
    (tmp_path / "raw").mkdir()
    sound = load_waveform(files[speaker], seconds=2.8)
    with VideoWriter(tmp_path / "raw/two.mp4", 25, 512, 256, audio=(sound, 16000)) as writer:
        for pair in zip(*people, strict=False):
            writer.write(np.hstack([fitted(frame) for frame in pair]))
    limits = FilterSettings(min_speech_ratio=0, max_yaw_degrees=90)
    settings = clip_preparation.PrepareSettings(size=96, speech="energy", choose="speaker", filters=limits)
    store = prepare_module.prepare(
        folder.find_clips(tmp_path / "raw"), tmp_path / "raw", tmp_path / "out", settings,
        SerialExecutor(), progress=False,
    ).store  # fmt: skip
    matrix = store.array(store.clips[0], "crop_matrix")[0]
    x = np.linalg.solve(matrix[:, :2], 48 - matrix[:, 2])[0]
    assert (x > 256) == bool(speaker)


def fitted(frame: np.ndarray) -> np.ndarray:
    """256 × 256 pixels out of the middle."""
    side = min(frame.shape[:2])
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return cv2.resize(frame[top : top + side, left : left + side], (256, 256), interpolation=cv2.INTER_AREA)
