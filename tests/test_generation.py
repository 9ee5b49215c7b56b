"""``talkgen generate`` through the real entry point."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from talkgen.audio.waveform import save_waveform
from talkgen.cli import main
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.generation import choose_method, method_of
from talkgen.generation_method import GenerationMethod, methods
from talkgen.inference import request, swaptalk
from talkgen.video.reader import probe
from talkgen.video.writer import VideoWriter


class Detector:
    def detect(self, frame: np.ndarray) -> list[Face]:
        points = (ARCFACE_TEMPLATE * 0.4 + (20, 10)).astype(np.float32)
        return [Face(np.array([20, 10, 65, 55], np.float32), 0.9, points)]


@pytest.fixture()
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(swaptalk, "make_detector", lambda name: Detector())
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    with VideoWriter(tmp_path / "target.mp4", 25, 96, 64) as writer:
        for _ in range(8):
            writer.write(picture)
    cv2.imwrite(str(tmp_path / "source.png"), picture)
    save_waveform(tmp_path / "speech.wav", np.zeros(16000, np.float32))
    return tmp_path


def command(inputs: Path, folder: Path, /, **changed: str) -> list[str]:
    given = {
        "source": str(inputs / "source.png"),
        "target": str(inputs / "target.mp4"),
        "audio": str(inputs / "speech.wav"),
        "out": str(inputs / "made" / "out.mp4"),
        "run": folder.name,
        "paths.runs": str(folder.parent),
        "device": "cpu",
    } | changed
    return ["generate", *(f"{key}={value}" for key, value in given.items() if value)]


def test_one_command(inputs: Path, tiny_method: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(inputs, tiny_method)) == 0
    info = probe(inputs / "made" / "out.mp4")
    assert (info.frames, info.width, info.height, info.has_audio) == (25, 96, 64, True)
    assert f"written to {inputs / 'made' / 'out.mp4'}" in capsys.readouterr().out
    how = {"order": "sync_swap", "space": "rgb", "snap": "true", "paste": "crop", "label": "synthetic"}
    assert main(command(inputs, tiny_method, run="", **how)) == 0  # the newest method


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"out": ""}, "say what to make: talkgen generate source=PICTURE"),
        ({"target": ""}, "say what to make"),
        ({"target": "nowhere.mp4"}, "nowhere.mp4: no such file"),
        ({"out": "out.avi"}, "out.avi: cannot hold the video; name it .mp4"),
        ({"run": "swaptolk"}, "'swaptolk' is no trained method in"),
        ({"order": "both"}, "order=both: give swap_sync or sync_swap"),
        ({"space": "pixels"}, "space=pixels: give latent or rgb"),
        ({"paste": "mouth"}, "paste=mouth: give face or crop"),
        ({"batch_frames": "0"}, "batch_frames=0: give a number of frames"),
        ({"choose": "index:7"}, "no face 7 from the left (from 0) was found"),
        ({"method": "wav2lip"}, "method=wav2lip: there is swaptalk"),
        ({"device": "cudda"}, "device=cudda cannot be used here"),
        ({"face": "x.png"}, "face and target are two names of one thing"),
        ({"text": "Hello, you"}, "audio and text are both given"),
        ({"language": "fr"}, "language=fr: give en or zh"),
        ({"batch": "jobs.csv"}, "leave face, audio, text, out away"),
        ({"sorce": "x"}, "nothing reads the key 'sorce' of the config (did you mean 'source'?)"),
    ],
)
def test_mistakes_are_one_sentence(
    inputs: Path,
    tiny_method: Path,
    changed: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(inputs)
    assert main(command(inputs, tiny_method, **changed)) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last


def test_a_picture_says_a_text(inputs: Path, tiny_method: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("espeakng_loader")
    given = {"target": "", "source": "", "audio": "", "face": str(inputs / "source.png"), "preview": "true"}
    assert main(command(inputs, tiny_method, text="Hello, you.", **given)) == 0
    info = probe(inputs / "made" / "out.mp4")
    assert info.has_audio and info.frames > 12
    assert (inputs / "made" / "out.png").is_file()
    assert f"{info.frames} frames, 0 without a face" in capsys.readouterr().out


def test_any_words_reach_the_voice(
    inputs: Path, tiny_method: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    monkeypatch.setattr(request, "speak", lambda text, language, voice: said.append(text) or None)
    words = 'He said: "no", it\'s {mine} = [yours], 5 $ ${x} 你好\\'
    with pytest.raises(AttributeError):  # there is no speech to go on with
        main(command(inputs, tiny_method, text=words, audio="", source=""))
    assert said == [words]


def test_a_batch(inputs: Path, tiny_method: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (inputs / "jobs.csv").write_text(
        "face,audio,out\ntarget.mp4,speech.wav,made/a.mp4\ntarget.mp4,none.wav,made/b.mp4\n"
    )
    own = {"source": "", "target": "", "audio": "", "out": "", "batch": str(inputs / "jobs.csv")}
    assert main(command(inputs, tiny_method, **own)) == 1
    said = capsys.readouterr().out
    assert "1 written, 0 there already, 1 rejected: 25 frames" in said
    assert "none.wav: no such file" in (inputs / "jobs.rejects.csv").read_text()
    save_waveform(inputs / "none.wav", np.zeros(3200, np.float32))
    assert main(command(inputs, tiny_method, **own)) == 0
    assert "1 written, 1 there already, 0 rejected: 5 frames" in capsys.readouterr().out
    assert not (inputs / "jobs.rejects.csv").exists()


def test_inputs_are_never_overwritten(
    inputs: Path, tiny_method: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (inputs / "target.mp4").read_bytes()
    assert main(command(inputs, tiny_method, out=str(inputs / "target.mp4"))) == 1
    assert "is one of the inputs" in capsys.readouterr().err
    assert (inputs / "target.mp4").read_bytes() == before


def test_files_that_are_not_what_they_should_be(
    inputs: Path, tiny_method: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (inputs / "text.txt").write_text("neither picture nor sound nor video")
    for key in ("source", "target", "audio"):
        assert main(command(inputs, tiny_method, **{key: str(inputs / "text.txt")})) == 1
        assert "text.txt" in capsys.readouterr().err
    assert not (inputs / "made" / "out.mp4").exists()


def test_the_method_of_a_folder(tiny_method: Path, tmp_path: Path) -> None:
    def named(folder: Path) -> bool:
        return (folder / "other").exists()

    known = {
        "swaptalk": methods()["swaptalk"],
        "other": GenerationMethod(named, methods()["swaptalk"].open, "other"),
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "other").touch()
    assert method_of(known, tmp_path, "mine") == "other"
    assert method_of(known, tmp_path, str(tiny_method)) == "swaptalk"
    assert method_of(known, tiny_method.parent, None) == "swaptalk"
    assert method_of(known, tmp_path, None) == "swaptalk"  # whose training the message then names


def test_choosing_a_method(tiny_method: Path, tmp_path: Path) -> None:
    method = methods()["swaptalk"]
    assert choose_method(tiny_method.parent, None, method) == tiny_method
    assert choose_method(tmp_path, str(tiny_method), method) == tiny_method
    with pytest.raises(Exception, match=f"there are {tiny_method.name}"):
        choose_method(tiny_method.parent, "other", method)
    with pytest.raises(Exception, match="there is no trained method"):
        choose_method(tmp_path, None, method)
