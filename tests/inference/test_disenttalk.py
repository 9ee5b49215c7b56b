"""DisentTalk in use: files to files, streams, whose face, eyes and pose are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from talkgen.audio.alignment import frames_in
from talkgen.audio.waveform import save_waveform
from talkgen.errors import FileError, TalkgenError
from talkgen.face3d.coefficients import ANGLE, EXPRESSION, IDENTITY, rotation
from talkgen.face3d.fitting import crop_camera
from talkgen.face3d.head import build_head
from talkgen.faces.crop import CropSettings
from talkgen.faces.detection import Face
from talkgen.faces.ibug import keypoints_from_landmarks
from talkgen.inference.disenttalk import (
    DisentTalk,
    Performance,
    frames_of,
    generate,
    is_still,
    open_source,
    stream_frames,
)
from talkgen.inference.fitted_face import FaceFitter
from talkgen.inference.mesh_preview import MeshPreview
from talkgen.inference.motion_renderer import MeshRenderer
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import VideoWriter

CROP = CropSettings(size=96)


def landmarks_of(turn: float) -> np.ndarray:
    """A head of the model, turned, in a picture of 160 × 120: its 68 points."""
    model = build_head()
    points = model.landmarks68(np.zeros(80), np.zeros(64)) @ rotation(np.array([0.0, turn, 0.0])).T
    return (crop_camera(CROP).project(points) * 0.8 + (30, 20)).astype(np.float32)


class Finder:
    """Finds one face, whose turn is written as the brightness of the picture."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        if frame.mean() < 5:
            return []
        points = landmarks_of(self.turn(frame))
        box = np.concatenate([points.min(0), points.max(0)]).astype(np.float32)
        return [Face(box, 0.9, keypoints_from_landmarks(points[None])[0])]

    def landmarks(self, frame: np.ndarray, face: Face) -> np.ndarray:
        return landmarks_of(self.turn(frame))

    @staticmethod
    def turn(frame: np.ndarray) -> float:
        return (float(frame.mean()) - 128) / 250


class Motion:
    """Opens one coefficient as loud as the sound is, and remembers what it was asked for."""

    fps = 25.0
    morphable_model = "demo"

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def hear(self, waveform: np.ndarray, frames: int | None = None) -> np.ndarray:
        count = frames_in(len(waveform)) if frames is None else frames
        padded = np.pad(waveform, (0, max(0, count * 640 - len(waveform))))[: count * 640]
        return np.abs(padded.reshape(count, 640)).mean(1, keepdims=True).astype(np.float32)

    def generate(self, features: np.ndarray, start: np.ndarray, **how: Any) -> np.ndarray:
        self.asked = how
        made = np.tile(start, (len(features), 1))
        made[:, EXPRESSION.start] += 4 * features[:, 0]
        if how["pose"] is not None:
            made[:, ANGLE] = how["pose"][np.arange(len(made)) % len(how["pose"])][:, ANGLE]
        return made

    def stream(self, chunks, start: np.ndarray, **how: Any):
        sound = np.zeros(0, np.float32)
        for chunk in chunks:
            sound = np.concatenate([sound, chunk])
            while len(sound) >= 640:
                yield self.generate(self.hear(sound[:640], 1), start, **how)[0]
                sound = sound[640:]


@pytest.fixture()
def model() -> DisentTalk:
    finder, head = Finder(), build_head()
    renderer = MeshRenderer(MeshPreview(head, crop_camera(CropSettings(size=64))))
    return DisentTalk(Motion(), renderer, FaceFitter(head, CROP, finder, finder))  # type: ignore[arg-type]


def picture(turn: float) -> np.ndarray:
    return np.full((120, 160, 3), round(128 + 250 * turn), np.uint8)


@pytest.fixture()
def files(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "source.png"), picture(0.0))
    cv2.imwrite(str(tmp_path / "nobody.png"), np.zeros((120, 160, 3), np.uint8))
    loud = np.zeros(32000, np.float32)
    loud[16000:] = 0.5
    save_waveform(tmp_path / "speech.wav", loud)
    for name, turns in (("pose", np.linspace(-0.2, 0.2, 12)), ("still", np.zeros(6))):
        with VideoWriter(tmp_path / f"{name}.mp4", 25, 160, 120, crf=0) as writer:
            for turn in turns:
                writer.write(picture(turn))
    return tmp_path


def test_a_picture_speaks(model, files):
    out = files / "out.mp4"
    written, latency = generate(model, files / "source.png", files / "speech.wav", out, progress=False)
    info = probe(out)
    assert (info.frames, info.fps, info.width, info.has_audio) == (50, 25, 64, True)
    assert written.frames == 50 and latency is None
    frames = [frame.astype(int) for frame in read_frames(out)]
    quiet, loud = np.abs(frames[10] - frames[3]).mean(), np.abs(frames[40] - frames[3]).mean()
    assert loud > quiet + 0.5  # the face moves when there is something to hear


def test_the_pose_is_the_other_videos(model, files):
    generate(model, files / "source.png", files / "speech.wav", files / "out.mp4", pose=files / "pose.mp4",
             progress=False)  # fmt: skip
    pose = model.motion.asked["pose"]
    assert pose.shape == (12, 257)
    assert np.corrcoef(pose[:, 225], np.linspace(-0.2, 0.2, 12))[0, 1] > 0.99
    assert pose[-1, 225] - pose[0, 225] == pytest.approx(0.4, abs=0.08)
    assert (pose[:, IDENTITY] == pose[0, IDENTITY]).all()


def test_eyes_and_seed_are_handed_on(model, files):
    arguments = {"eye": "copied", "eye_source": files / "pose.mp4", "seed": 7, "progress": False}
    generate(model, files / "source.png", files / "speech.wav", files / "out.mp4", **arguments)
    asked = model.motion.asked
    assert (asked["eye"], asked["seed"], asked["eyes"].shape, asked["pose"]) == ("copied", 7, (12, 257), None)
    with pytest.raises(TalkgenError, match="eye_source=FILE"):
        Performance(eye="copied")
    with pytest.raises(TalkgenError, match="eye=shut"):
        Performance(eye="shut")


@pytest.mark.parametrize(("fps", "frames"), [(50, 100), (30, 60), (10, 20)])
def test_any_frame_rate(model, files, fps, frames):
    generate(model, files / "source.png", files / "speech.wav", files / "out.mp4", fps=fps, progress=False)
    info = probe(files / "out.mp4")
    assert (info.frames, info.fps) == (frames, fps)


def test_a_stream_is_the_clip_and_tells_how_soon_it_began(model, files):
    whole, soon = files / "whole.mp4", files / "soon.mp4"
    generate(model, files / "source.png", files / "speech.wav", whole, crf=0, progress=False)
    written, latency = generate(
        model, files / "source.png", files / "speech.wav", soon, streaming=True, crf=0, progress=False
    )
    assert written.frames == 50
    assert latency.heard_seconds == pytest.approx(0.2)  # one chunk
    assert latency.worked_seconds < 5 and latency.frames_per_second > 1
    for a, b in zip(read_frames(whole), read_frames(soon), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 2
    with pytest.raises(TalkgenError, match="25 frames a second"):
        generate(model, files / "source.png", files / "speech.wav", soon, streaming=True, fps=50)


def test_frames_come_while_sound_comes(model, files):
    source = open_source(model, files / "source.png")
    heard = 0

    def chunks():
        nonlocal heard
        for _ in range(10):
            heard += 1
            yield np.zeros(3200, np.float32)

    when = []
    for _ in stream_frames(model, source, chunks(), Performance()):
        when.append(heard)
    assert when == [1 + number // 5 for number in range(50)]
    assert len(list(frames_of(model, source, np.zeros(32000, np.float32), Performance()))) == 50


def test_the_crop_is_put_back_into_the_picture(model, files):
    generate(model, files / "source.png", files / "speech.wav", files / "out.mp4", into="picture", crf=0,
             progress=False, watermark=False)  # fmt: skip
    frame = next(iter(read_frames(files / "out.mp4"))).astype(int)
    assert frame.shape == (120, 160, 3)
    assert np.abs(frame[2, 2] - picture(0.0)[2, 2]).max() <= 3  # outside of the crop
    assert np.abs(frame - picture(0.0)).mean() > 10


def test_a_video_gives_its_first_face(model, files):
    source = open_source(model, files / "pose.mp4")
    assert source.coefficients[225] == pytest.approx(-0.2, abs=0.05)
    assert is_still(files / "still.mp4") and not is_still(files / "pose.mp4")


def test_faceless_pictures_are_refused(model, files):
    with pytest.raises(FileError, match="no face was found"):
        open_source(model, files / "nobody.png")
    with pytest.raises(FileError, match="lasts less than one frame"):
        save_waveform(files / "short.wav", np.zeros(100, np.float32))
        generate(model, files / "source.png", files / "short.wav", files / "out.mp4")


def test_the_command(model, files, monkeypatch, capsys):
    """Pose from a target that moves, none from a picture; a stream tells how soon it began."""
    from talkgen.cli import main
    from talkgen.inference import disenttalk

    checkpoint = files / "runs" / "d" / "disenttalk_motion" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    monkeypatch.setattr(disenttalk, "load_disenttalk", lambda *arguments: model)
    arguments = [
        "generate", "method=disenttalk", f"paths.runs={files / 'runs'}", "run=d", "device=cpu",
        f"audio={files / 'speech.wav'}", f"out={files / 'out.mp4'}",
    ]  # fmt: skip
    assert main([*arguments, f"face={files / 'source.png'}"]) == 0
    assert model.motion.asked["pose"] is None
    moving = [f"source={files / 'source.png'}", f"target={files / 'pose.mp4'}", "disenttalk.seed=3"]
    assert main([*arguments, *moving]) == 0
    assert model.motion.asked["pose"].shape == (12, 257) and model.motion.asked["seed"] == 3
    assert main([*arguments, f"face={files / 'source.png'}", "streaming=true"]) == 0
    said = capsys.readouterr().out
    assert "first frame after 0.20 s of sound" in said and said.count("50 frames, 0 without a face") == 3
    assert main([*arguments, f"face={files / 'source.png'}", "disenttalk.eye=shut"]) == 1
    assert "disenttalk.eye=shut: give sampled, copied, off" in capsys.readouterr().err
