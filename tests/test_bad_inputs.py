"""A hundred files as users have them, in one batch: a right result or a clear reason each, and nothing else.

The networks are tiny and untrained, and a red square is a face; what is tested is everything around them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_media import (
    THREE,
    Maker,
    coded_sound,
    content,
    cut,
    headless_wave,
    misnamed,
    of,
    picture,
    scratched,
    sound,
    still,
    turned_jpeg,
    video,
    wave,
)
from square_faces import SquareLandmarker, face_points

from talkgen.cli import main
from talkgen.data import clip_preparation
from talkgen.data import prepare as preparation
from talkgen.data.clip_preparation import PrepareSettings
from talkgen.data.corpora.folder import find_clips
from talkgen.data.executors import SerialExecutor
from talkgen.data.filters import FilterSettings
from talkgen.faces.detection import Face
from talkgen.inference import swaptalk
from talkgen.video.reader import probe

Shape = tuple[int, int, int]  # width, height, frames
GOOD = (160, 160, 10)


class RedSquares:
    """Every red square of 12 pixels and more is a face."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        red = (frame[..., 0] > 150) & (frame[..., 1] < 140) & (frame[..., 2] < 140)
        shrunk = max(1, frame.shape[1] // 640)
        _, _, stats, _ = cv2.connectedComponentsWithStats(
            np.ascontiguousarray(red[::shrunk, ::shrunk]).astype(np.uint8)
        )
        boxes = [shrunk * row[:4].astype(np.float32) for row in stats[1:] if row[2] >= 12 and row[3] >= 12]
        return [self.face(np.array([x, y, x + w, y + h], np.float32)) for x, y, w, h in boxes]

    def face(self, box: np.ndarray) -> Face:
        return Face(box, 0.9, face_points(box))


@dataclass(frozen=True)
class Case:
    """A file, and what comes of it: the shape of the result, or words of the reason."""

    name: str
    make: Maker
    result: Shape | str


def faces_in(*numbers: int) -> Callable[[int], tuple[Shape, ...]]:
    return lambda k: ((50, 50, 60),) if k in numbers else ()


half = partial(video, frames=40)
VIDEOS = [
    Case("good.mp4", video, GOOD),
    Case("with sound.mp4", of(video, seconds_of_sound=0.4), GOOD),
    Case("zero bytes.mp4", content(b""), "empty"),
    Case("one byte.mp4", content(b"x"), "cannot be opened as video"),
    Case("text.mp4", content(b"This is no video.\n" * 50), "cannot be opened as video"),
    Case("html.mp4", content(b"<!DOCTYPE html><title>404</title>"), "cannot be opened as video"),
    Case("noise.mp4", content(np.random.default_rng(0).bytes(20000)), "cannot be opened as video"),
    Case("index lost.mp4", cut(half, 0.6), "cannot be opened as video"),
    Case("end lost.mp4", cut(half, 0.6, index_first=True), "it is cut off"),
    Case("scratched.mp4", scratched, "is broken after"),
    Case("picture.mp4", misnamed(still, ".png"), GOOD),
    Case("sound.mp4", misnamed(wave, ".wav"), "only sound"),
    Case("sound only.mp4", misnamed(coded_sound, ".m4a", codec="aac"), "only sound"),
    Case("matroska.mp4", misnamed(video, ".mkv"), GOOD),
    Case("named.txt", misnamed(video, ".mp4"), GOOD),
    Case("no ending", misnamed(video, ".mp4"), GOOD),
    Case("CAPITALS.MOV", misnamed(video, ".mov"), GOOD),
    Case("ünï cödé 你好 (1) [x] 'q' = ,.mp4", video, GOOD),
    Case("no face.mp4", of(video, faces=faces_in()), "no face was found"),
    Case("face at first.mp4", of(video, faces=faces_in(0, 1)), GOOD),
    Case("face at last.mp4", of(video, faces=faces_in(8, 9)), GOOD),
    Case("face comes back.mp4", of(video, frames=20, faces=faces_in(*range(5), *range(15, 20))), GOOD),
    Case("three faces.mp4", of(video, faces=lambda k: THREE), GOOD),
    Case("face at the rim.mp4", of(video, faces=lambda k: ((-20, 40, 60),)), GOOD),
    Case("face fills all.mp4", of(video, faces=lambda k: ((0, 0, 160),)), GOOD),
    Case("tiny face.mp4", of(video, faces=lambda k: ((80, 80, 6),)), "no face was found"),
    Case("black.mp4", of(video, level=0), "no face was found"),
    Case("white.mp4", of(video, level=255), "no face was found"),
    Case("2 pixels.mp4", of(video, size=(2, 2)), "no face was found"),
    Case("odd.mp4", of(video, size=(161, 121), pixels="yuv444p"), (162, 122, 10)),
    Case("narrow.mp4", of(video, size=(32, 400)), (32, 400, 10)),
    Case("8k.mp4", of(video, size=(7680, 4320), frames=1), (7680, 4320, 2)),
    Case("one frame.mp4", of(video, frames=1), GOOD),
    Case("a tenth of a second.mp4", of(video, frames=3), GOOD),
    Case("long.mp4", of(video, frames=200), GOOD),
    Case("1 fps.mp4", of(video, fps=1, frames=2), "lasts less than one frame"),
    Case("5 fps.mp4", of(video, fps=5), (160, 160, 2)),
    Case("23.976 fps.mp4", of(video, fps=Fraction(24000, 1001)), (160, 160, 9)),
    Case("30 fps.mp4", of(video, fps=30), (160, 160, 12)),
    Case("120 fps.mp4", of(video, fps=120, frames=50), (160, 160, 48)),
    Case("variable fps.mkv", of(video, times=[0, 0.03, 0.09, 0.1, 0.22, 0.3, 0.31, 0.4, 0.5, 0.6]), 160),
    Case("starts late.mkv", of(video, times=[5 + k / 25 for k in range(10)]), GOOD),
    Case("rotated.mp4", of(video, size=(160, 120), rotation=90), (120, 160, 10)),
    Case("upside down.mp4", of(video, rotation=180), GOOD),
    Case("wide pixels.mp4", of(video, size=(160, 120), shape=Fraction(2)), (320, 120, 10)),
    Case("yuv444.mp4", of(video, pixels="yuv444p"), GOOD),
    Case("ten bits.mp4", of(video, pixels="yuv420p10le"), GOOD),
    Case("grey.mkv", of(video, codec="ffv1", pixels="gray"), "no face was found"),
    Case("alpha.mkv", of(video, codec="ffv1", pixels="bgra"), GOOD),
    Case("old.avi", of(video, codec="mpeg4"), GOOD),
    Case("motion jpeg.avi", of(video, codec="mjpeg", pixels="yuvj420p"), GOOD),
    Case("web.webm", of(video, codec="libvpx-vp9"), GOOD),
    Case("moving.gif", of(video, codec="gif", pixels="rgb8", fps=10), (160, 160, 4)),
    Case("a folder.mp4", Path.mkdir, "folder"),
    Case("a link.mp4", lambda file: file.symlink_to("good.mp4"), GOOD),
    Case("a dead link.mp4", lambda file: file.symlink_to("gone.mp4"), "no such file"),
    Case("missing.mp4", lambda file: None, "no such file"),
]
PICTURES = [
    Case("good.png", still, (160, 160, 10)),
    Case("good.jpg", still, GOOD),
    Case("good.webp", still, GOOD),
    Case("good.bmp", still, GOOD),
    Case("good.tiff", still, GOOD),
    Case("jpeg.png", misnamed(still, ".jpg"), GOOD),
    Case("video.png", misnamed(video, ".mp4"), "no picture"),
    Case("zero bytes.png", content(b""), "empty"),
    Case("text.jpg", content(b"no picture" * 9), "no picture"),
    Case("half.png", of(still, share=0.3), "no picture|no face"),
    Case("half.jpg", of(still, share=0.6), "no picture"),
    Case("no face.png", of(still, pixels=picture(faces=())), "no face was found"),
    Case("three faces.png", of(still, pixels=picture(faces=THREE)), GOOD),
    Case("2 pixels.png", of(still, pixels=picture((2, 2))), "too small"),
    Case("odd.png", of(still, pixels=picture((161, 121))), (162, 122, 10)),
    Case("8k.png", of(still, pixels=picture((7680, 4320))), (1920, 1080, 2)),
    Case("grey.png", of(still, pixels=picture()[..., 0]), "no face was found"),
    Case("deep.png", of(still, pixels=picture().astype(np.uint16) * 257), GOOD),
    Case(
        "alpha.png",
        of(still, pixels=np.dstack([picture()[..., ::-1], np.full((160, 160), 255, np.uint8)])),
        GOOD,
    ),
    Case("turned.jpg", turned_jpeg, GOOD),
]
SOUNDS = [
    Case("good.wav", wave, GOOD),
    Case("zero bytes.wav", content(b""), "empty"),
    Case("text.wav", content(b"no sound" * 40), "cannot be decoded"),
    Case("no samples.wav", of(wave, samples=np.zeros(0, np.float32)), "no sound samples"),
    Case("a blink.wav", of(wave, samples=np.zeros(200, np.float32)), "lasts less than one frame"),
    Case("a tenth.wav", of(wave, samples=sound(0.1)), (160, 160, 2)),
    Case("silence.wav", of(wave, samples=np.zeros(6400, np.float32)), GOOD),
    Case("nan.wav", of(wave, samples=np.full(6400, np.nan, np.float32), subtype="FLOAT"), "not finite"),
    Case("infinite.wav", of(wave, samples=np.full(6400, np.inf, np.float32), subtype="FLOAT"), "not finite"),
    Case("too loud.wav", of(wave, samples=50 * sound(0.4), subtype="FLOAT"), GOOD),
    Case("stereo.wav", of(wave, samples=np.stack([sound(0.4)] * 2, -1)), GOOD),
    Case("six channels.wav", of(wave, samples=np.stack([sound(0.4)] * 6, -1)), GOOD),
    Case("8 kHz.wav", of(wave, rate=8000), GOOD),
    Case("96 kHz.wav", of(wave, rate=96000), GOOD),
    Case("8 bit.wav", of(wave, subtype="PCM_U8"), GOOD),
    Case("24 bit.wav", of(wave, subtype="PCM_24"), GOOD),
    Case("sound.flac", wave, GOOD),
    Case("sound.ogg", of(wave, rate=48000), GOOD),
    Case("sound.mp3", of(wave, rate=16000), 160),
    Case("sound.m4a", of(coded_sound, codec="aac"), 160),
    Case("wave.mp3", misnamed(wave, ".wav"), GOOD),
    Case("cut.wav", headless_wave, (160, 160, 9)),
    Case("of a video.mp4", of(video, seconds_of_sound=0.4), 160),
    Case("silent video.mp4", video, "no audio stream"),
    Case("picture.png", still, "cannot be decoded|no audio stream"),
    Case("ünï 你好.wav", wave, GOOD),
    Case("missing.wav", lambda file: None, "no such file"),
]
TEXTS: dict[str, Shape | str | int] = {
    "Hello there.": 160,
    "zh:你好": 160,
    "fr:Bonjour": "language=fr",
    "zh:!!": "cannot be spoken",
    "…": "cannot be spoken",
}


def rows() -> Iterator[tuple[str, dict[str, str], Shape | str | int]]:
    """Name of each job, its line of the table, and what comes of it."""
    for case in VIDEOS:
        heard = "sounds/a tenth.wav" if case.name.startswith("8k") else "good.wav"  # a second a frame
        yield f"video {case.name}", {"face": f"videos/{case.name}", "audio": heard}, case.result
    for case in PICTURES:
        heard = "sounds/a tenth.wav" if case.name.startswith("8k") else "good.wav"
        yield f"picture {case.name}", {"face": f"pictures/{case.name}", "audio": heard}, case.result
    for case in SOUNDS:
        yield f"sound {case.name}", {"face": "good.mp4", "audio": f"sounds/{case.name}"}, case.result
    for name in ("good.png", "zero bytes.png", "text.jpg", "no face.png"):
        case = next(one for one in PICTURES if one.name == name)
        line = {"face": "good.mp4", "audio": "good.wav", "source": f"pictures/{name}"}
        yield f"source {name}", line, case.result
    for text, result in TEXTS.items():
        language, _, words = text.rpartition(":")
        yield f"text {text}", {"face": "good.mp4", "text": words, "language": language}, result
    yield "picture without sound", {"face": "pictures/good.png"}, "is a picture, which has no sound"
    yield "video without sound", {"face": "good.mp4"}, "no audio stream"
    yield "video with own sound", {"face": "videos/with sound.mp4"}, 160
    yield "out.avi", {"face": "good.mp4", "audio": "good.wav"}, "cannot hold the video"
    yield "text and sound", {"face": "good.mp4", "audio": "good.wav", "text": "a"}, "both given"


JOBS = list(rows())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad inputs")
    for name, cases in (("videos", VIDEOS), ("pictures", PICTURES), ("sounds", SOUNDS)):
        (folder / name).mkdir()
        for case in cases:
            case.make(folder / name / case.name)
    video(folder / "good.mp4")
    wave(folder / "good.wav")
    return folder


def out_name(number: int) -> str:
    name = JOBS[number][0]
    return name if name == "out.avi" else f"made/{number}.mp4"


@pytest.fixture(scope="module")
def made(folder: Path, tiny_method: Path) -> dict[str, str]:
    """One batch of all jobs: output → reason, of those that were rejected."""
    with (folder / "jobs.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ("face", "source", "audio", "text", "language", "out"))
        writer.writeheader()
        for number, (_, line, _) in enumerate(JOBS):
            writer.writerow(line | {"out": out_name(number)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swaptalk, "make_detector", lambda name: RedSquares())
        own = [f"run={tiny_method.name}", f"paths.runs={tiny_method.parent}", "device=cpu"]
        assert main(["generate", f"batch={folder / 'jobs.csv'}", *own]) == 1
    with (folder / "jobs.rejects.csv").open(newline="", encoding="utf-8") as stream:
        return {Path(row["out"]).name: row["reason"] for row in csv.DictReader(stream)}


@pytest.mark.parametrize("number", range(len(JOBS)), ids=[name for name, _, _ in JOBS])
def test_generate(number: int, made: dict[str, str], folder: Path) -> None:
    name, _, result = JOBS[number]
    if name.startswith("text ") and isinstance(result, int):
        pytest.importorskip("espeakng_loader")
    out = folder / out_name(number)
    reason = made.get(out.name)
    if isinstance(result, str):
        assert reason is not None and not out.exists()
        assert re.search(result, reason), reason
        return
    assert reason is None, reason
    info = probe(out)
    assert info.has_audio
    if isinstance(result, int):
        assert info.width == result and info.frames >= 2
    else:
        assert (info.width, info.height, info.frames) == result


def test_nothing_else_is_left(made: dict[str, str], folder: Path) -> None:
    results = {Path(out_name(number)).name for number, job in enumerate(JOBS) if not isinstance(job[2], str)}
    assert {file.name for file in (folder / "made").iterdir()} == results
    assert not list(folder.rglob("*.partial*"))
    assert len(JOBS) >= 100


@pytest.fixture(scope="module")
def prepared(folder: Path) -> tuple[set[str], dict[str, str]]:
    """The same videos as a corpus: what came into the store, and the reasons for what did not."""
    filters = FilterSettings(min_seconds=0.2, min_face_pixels=20, min_sharpness=0, min_face_found=0.1)
    settings = PrepareSettings(size=48, sound=False, filters=filters)
    clips = find_clips(folder / "videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_preparation, "make_detector", lambda name: RedSquares())
        patch.setattr(clip_preparation, "make_landmarker", lambda name: SquareLandmarker())
        preparation._preparer.cache_clear()
        outcome = preparation.prepare(
            [clip for clip in clips if clip.id != "8k"],  # seconds for nothing new
            folder / "videos",
            folder / "store",
            settings,
            SerialExecutor(),
            progress=False,
            disk_check=False,
        )
        preparation._preparer.cache_clear()
    videos = {clip.id: clip.video for clip in clips}
    rejected = {Path(reject.file).name: reject.reason for reject in outcome.rejects}
    return {videos[clip.raw] for clip in outcome.store.clips}, rejected


NO_VIDEOS = (  # by their names, or left out above
    "8k.mp4",
    "named.txt",
    "no ending",
    "moving.gif",
    "missing.mp4",
    "a folder.mp4",
    "a dead link.mp4",
)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in VIDEOS])
def test_prepare(case: Case, prepared: tuple[set[str], dict[str, str]]) -> None:
    stored, rejected = prepared
    if case.name in NO_VIDEOS:
        assert case.name not in stored
    elif isinstance(case.result, str) and "lasts less" not in case.result:
        assert case.name not in stored and rejected[case.name]
    else:
        assert case.name in stored or rejected[case.name]


def test_prepare_leaves_nothing_else(prepared: tuple[set[str], dict[str, str]], folder: Path) -> None:
    stored, _ = prepared
    assert {
        "good.mp4",
        "CAPITALS.MOV",
        "ten bits.mp4",
        "rotated.mp4",
        "ünï cödé 你好 (1) [x] 'q' = ,.mp4",
    } <= stored
    assert not list((folder / "store").rglob("*.partial*"))


EVALUATED = {  # beside a true video of the same name → words of the error, None: a table
    "good.mp4": None,
    "ünï cödé 你好 (1) [x] 'q' = ,.mp4": None,
    "zero bytes.mp4": "empty",
    "text.mp4": "cannot be opened as video",
    "index lost.mp4": "cannot be opened as video",
    "end lost.mp4": None,  # after the last frame that the true one has
    "sound.mp4": "only sound",
    "2 pixels.mp4": None,  # enlarged
    "a dead link.mp4": "a dead link.mp4",
}


@pytest.mark.parametrize(("name", "said"), EVALUATED.items(), ids=EVALUATED)
def test_evaluate_videos(
    name: str, said: str | None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, file in (("truth", folder / "good.mp4"), ("made", folder / "videos" / name)):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).symlink_to(file)
    given = [f"videos={tmp_path / 'made'}", f"truth={tmp_path / 'truth'}", f"out={tmp_path / 'out'}"]
    code = main(["evaluate", *given, "metrics=reconstruction", "landmarks=insightface", "cache=null"])
    error = capsys.readouterr().err.strip().splitlines()[-1:]
    if said is None:
        assert code == 0 and (tmp_path / "out" / "table.md").is_file()
    else:
        assert code == 1 and error[0].startswith("error: ") and said in error[0]
        assert not (tmp_path / "out" / "table.md").exists()
    assert not list(tmp_path.rglob("*.partial*"))
