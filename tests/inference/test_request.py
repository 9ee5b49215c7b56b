"""Pictures and texts as what a method takes, and tables of many videos."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from talkgen.audio.waveform import load_waveform, save_waveform
from talkgen.errors import FileError, MissingPackage, TalkgenError
from talkgen.inference.batch import read_batch, rejects_file, run_batch
from talkgen.inference.changed_video import Written
from talkgen.inference.preview import FRAMES, write_preview
from talkgen.inference.request import Request, as_files
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import VideoWriter


@pytest.fixture()
def picture(tmp_path: Path) -> Path:
    y, x = np.mgrid[:60, :81]
    pixels = np.stack([2 * x, 3 * y, x + y], -1).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), pixels)
    return tmp_path / "face.png"


def test_a_picture_becomes_a_video_that_stands_still(picture: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    request = Request(picture, tmp_path / "out.mp4", text="Hello there.")
    with as_files(request) as (target, audio):
        frames = np.stack(list(read_frames(target)))
        assert frames.shape == (25, 60, 82, 3)
        true = cv2.imread(str(picture))[..., ::-1].astype(int)
        assert np.abs(frames[:, :, :81] - true).mean() < 1.5 and np.ptp(frames, 0).max() == 0
        assert audio is not None and 0.5 < len(load_waveform(audio)) / 16000 < 3
    assert not target.exists()
    assert list(tmp_path.iterdir()) == [picture]


def test_large_pictures_are_shrunk_and_tiny_ones_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((100, 4000, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((2, 2, 3), np.uint8))
    with as_files(Request(tmp_path / "large.png", tmp_path / "o.mp4")) as (target, _):
        assert (probe(target).width, probe(target).height) == (1920, 48)
    with (
        pytest.raises(FileError, match=r"tiny.png: is 2 × 2 pixels"),
        as_files(Request(tmp_path / "tiny.png", tmp_path / "o.mp4")),
    ):
        pass


def test_errors_name_what_the_user_gave(picture: Path, tmp_path: Path) -> None:
    request = Request(picture, tmp_path / "o.mp4")
    with pytest.raises(FileError, match=r"face.png: no face"), as_files(request) as (target, _):
        raise FileError(target, "no face")
    other = tmp_path / "other.wav"
    with pytest.raises(FileError, match=r"other.wav: is broken"), as_files(request):
        raise FileError(other, "is broken")


def test_speech_that_cannot_be(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "o.mp4"
    for request, said in (
        (Request(picture, out, audio=picture, text="a"), "either a file or a text"),
        (Request(picture, out, text="a", language="de"), "language=de: give en or zh"),
        (Request(picture, out), "give audio=FILE or text=WORDS"),
        (Request(tmp_path / "no.mp4", out), "no such file"),
    ):
        with pytest.raises(TalkgenError, match=said):
            request.check()
    pytest.importorskip("espeakng_loader")
    with (
        pytest.raises(TalkgenError, match="unknown voice 'zed'"),
        as_files(Request(picture, out, text="a", voice="zed")),
    ):
        pass
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingPackage, match=r"talkgen\[demo\]"), as_files(Request(picture, out, text="a")):
        pass


def table(folder: Path, *lines: str) -> Path:
    file = folder / "jobs.csv"
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    return file


def test_a_table_of_videos(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        "face, text ,audio,out,language",
        'a.png,"Hello, world",,one.mp4,',
        "",
        "b.mp4,,s.wav,sub/two.mp4,zh",
    )
    (first, one), (second, two) = read_batch(file, Path("who.png"), "en", "ben")
    assert (first, second) == (2, 4)
    assert one == Request(
        tmp_path / "a.png", tmp_path / "one.mp4", Path("who.png"), None, "Hello, world", "en", "ben"
    )
    assert (two.audio, two.out, two.language) == (tmp_path / "s.wav", tmp_path / "sub/two.mp4", "zh")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("face,outt", "a,b"), "has a column 'outt'.*did you mean 'out'"),
        (("face,audio", "a,b"), "has no column 'out'"),
        (("face,out", "a,b,c"), "line 2 has more values"),
        (("face,out", ",b.mp4"), "line 2 lacks face"),
        (("face,out", "a,x.mp4", "b,x.mp4"), "lines 2 and 3 both write x.mp4"),
        (("face,out",), "no line below its header"),
        (("",), "has no column 'face'"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(FileError, match=said):
        read_batch(table(tmp_path, *lines), None, "en", None)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file; give a csv"):
        read_batch(tmp_path / "none.csv", None, "en", None)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FileError, match="no csv file in UTF-8"):
        read_batch(tmp_path / "x.csv", None, "en", None)


def test_a_batch_goes_on_and_is_taken_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [(i + 2, Request(tmp_path / "f.png", tmp_path / f"{i}.mp4")) for i in range(3)]
    broken = {tmp_path / "1.mp4"}
    made: list[Path] = []

    def make(request: Request) -> Written:
        if request.out in broken:
            raise FileError(request.target, "no face was found")
        made.append(request.out)
        request.out.write_bytes(b"x")
        return Written(request.out, 25, 0, 25)

    rejects = rejects_file(tmp_path / "jobs.csv")
    outcome = run_batch(requests, make, rejects)
    assert [line for line, _, _ in outcome.rejected] == [3] and len(outcome.written) == 2
    assert rejects.name == "jobs.rejects.csv" and "no face was found" in rejects.read_text()
    broken.clear()
    outcome = run_batch(requests, make, rejects)
    assert (len(outcome.written), len(outcome.skipped), outcome.rejected) == (1, 2, [])
    assert not rejects.exists() and made[-1] == tmp_path / "1.mp4"
    assert len(run_batch(requests, make, rejects, overwrite=True).written) == 3


def test_a_preview_shows_the_video_from_end_to_end(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, 64, 48) as writer:
        for level in range(0, 250, 10):
            writer.write(np.full((48, 64, 3), level, np.uint8))
    strip = cv2.imread(str(write_preview(tmp_path / "a.mp4")))
    assert strip.shape[1] > FRAMES * 320
    shades = strip[strip.shape[0] // 2, 100::324][:FRAMES, 0].astype(int)
    assert shades[0] < 5 and shades[-1] > 235 and (np.diff(shades) > 20).all()


def test_sound_that_is_not_finite_is_named(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "nan.wav", np.full(1600, np.nan, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(FileError, match="not finite"):
        load_waveform(tmp_path / "nan.wav")
    save_waveform(tmp_path / "fine.wav", np.zeros(1600, np.float32))
    assert load_waveform(tmp_path / "fine.wav").shape == (1600,)
