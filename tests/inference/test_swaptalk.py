"""From files to a file, with tiny untrained networks and a detector that knows where the face is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from omegaconf import OmegaConf

from talkgen.audio.waveform import load_waveform, save_waveform
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.inference import swaptalk
from talkgen.inference.cascade import Cascade, SwapTalk
from talkgen.inference.swaptalk import generate, load_swaptalk, training_crop, vqgan_of
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import SYNTHETIC_COMMENT, VideoWriter

WIDTH, HEIGHT = 160, 120


def frame_at(index: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    frame = np.stack([x + 30, 2 * y, 200 - x // 2 - y // 2], -1).astype(np.uint8)
    frame[:24, :24] = 20 + 3 * index
    return frame


class Detector:
    """One face in the middle, but in frames 10 to 19."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        if 10 <= round((float(frame[4:20, 4:20].mean()) - 20) / 3) < 20:
            return []
        points = (ARCFACE_TEMPLATE * 0.5 + (50, 30)).astype(np.float32)
        return [Face(np.array([50, 30, 106, 86], np.float32), 0.9, points)]


@pytest.fixture(autouse=True)
def known_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swaptalk, "make_detector", lambda name: Detector())


@pytest.fixture()
def model(tiny_method: Path) -> SwapTalk:
    return load_swaptalk(tiny_method, batch_frames=10)


@pytest.fixture()
def files(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """Makes a source, a target of ``frames`` with the sound of a buzz, and a driving sound of ``seconds``."""

    def make(frames: int = 30, fps: float = 25, seconds: float = 1.0) -> dict[str, Path]:
        buzz = (0.2 * np.sin(np.arange(round(frames / fps * 16000)) / 9)).astype(np.float32)
        with VideoWriter(tmp_path / "target.mp4", fps, WIDTH, HEIGHT, 10, audio=(buzz, 16000)) as writer:
            for index in range(frames):
                writer.write(frame_at(index))
        speech = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
        save_waveform(tmp_path / "speech.wav", speech)
        cv2.imwrite(str(tmp_path / "source.png"), frame_at(40)[::-1, ::-1])
        return {name.split(".")[0]: tmp_path / name for name in ("target.mp4", "speech.wav", "source.png")}

    return make


def differences(made: Path, numbers: list[int]) -> list[float]:
    """How far each written frame is from the target's, in the middle of the face."""
    face = np.s_[50:80, 65:92]
    return [
        float(np.abs(frame[face].astype(int) - frame_at(number)[face]).mean())
        for frame, number in zip(read_frames(made), numbers, strict=True)
    ]


def test_loading_takes_the_settings_of_the_training(tiny_method: Path, tiny_store: Path) -> None:
    model = load_swaptalk(tiny_method, Cascade("sync_swap", "rgb"), batch_frames=7)
    assert (model.size, model.window, model.references, model.batch_frames) == (32, 5, 1, 5)
    assert model.mel_convention == "official" and model.cascade == Cascade("sync_swap", "rgb")
    assert model.crop.size == 48  # of the store
    assert training_crop(tiny_method / "swaptalk_vqgan") == model.crop
    assert not any(p.requires_grad for p in model.face_swap.parameters())  # type: ignore[union-attr]


def test_a_moved_method_finds_its_vqgan_and_strangers_are_refused(tiny_method: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_method, tmp_path / "moved")
    sync = moved / "swaptalk_lip_sync" / "config.yaml"
    config = OmegaConf.load(sync)
    config.vqgan = str(tmp_path / "gone" / "swaptalk_vqgan")
    OmegaConf.save(config, sync)
    with pytest.raises(FileError, match="different VQGANs"):
        vqgan_of(moved)  # the face swap still names the one of the first folder
    shutil.rmtree(moved / "swaptalk_face_swap")
    assert vqgan_of(moved) == (moved / "swaptalk_vqgan").resolve()
    assert load_swaptalk(moved).face_swap is None
    shutil.rmtree(moved / "swaptalk_lip_sync")
    with pytest.raises(FileError, match="holds neither a trained swaptalk_face_swap nor swaptalk_lip_sync"):
        load_swaptalk(moved)


def test_a_model_that_hears_something_else_is_refused(tiny_method: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(tiny_method, tmp_path / "whisper")
    sync = copied / "swaptalk_lip_sync" / "config.yaml"
    config = OmegaConf.load(sync)
    config.system.audio = "whisper"
    OmegaConf.save(config, sync)
    with pytest.raises(FileError, match="was trained on whisper"):
        load_swaptalk(copied)


@pytest.mark.parametrize("fps", [25, 30000 / 1001])
def test_one_call_from_files_to_a_file(
    model: SwapTalk, files: Callable[..., dict[str, Path]], tmp_path: Path, fps: float
) -> None:
    """Longer sound: the video turns round; frames without a face stay; size, rate, sound, note are there."""
    given = files(30, fps, seconds=2.0)
    out = generate(
        model,
        given["source"],
        given["target"],
        given["speech"],
        tmp_path / "out.mp4",
        crf=4,
        progress=False,
        watermark=False,
    ).file
    info = probe(out)
    frames = int(2.0 * fps + 1e-6)
    assert (info.width, info.height, info.frames, info.has_audio) == (WIDTH, HEIGHT, frames, True)
    assert info.fps == pytest.approx(fps, rel=1e-4)
    order = [*range(30), *range(28, 0, -1), *range(30)][:frames]
    changed = np.array(differences(out, order))
    alone = np.array([10 <= number < 20 for number in order])
    assert changed[alone].max() < 2 and changed[~alone].min() > 4
    for frame, number in zip(read_frames(out), order, strict=True):
        assert np.abs(frame[:, :20].astype(int) - frame_at(number)[:, :20]).mean() < 2  # far from the face
    with av.open(str(out)) as container:
        assert SYNTHETIC_COMMENT in container.metadata["comment"]
    heard, said = load_waveform(out), load_waveform(given["speech"])
    count = min(len(heard), len(said)) - 2000
    assert np.corrcoef(heard[1000:count], said[1000:count])[0, 1] > 0.7  # the driving sound, as AAC


def test_shorter_sound_cuts_the_video(
    model: SwapTalk, files: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    given = files(30, seconds=0.29)
    out = generate(
        model, given["source"], given["target"], given["speech"], tmp_path / "o.mp4", progress=False
    ).file
    assert probe(out).frames == 7
    too_short = tmp_path / "blip.wav"
    save_waveform(too_short, np.zeros(300, np.float32))
    with pytest.raises(FileError, match="lasts less than one frame"):
        generate(model, None, given["target"], too_short, tmp_path / "p.mp4", progress=False)
    assert not (tmp_path / "p.mp4").exists()


def test_lips_alone_change_nothing_above_the_middle(
    model: SwapTalk, files: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    given = files(9)
    out = generate(
        model, None, given["target"], None, tmp_path / "o.mp4", crf=4, progress=False, watermark=False
    ).file
    assert probe(out).frames == 9  # the target's own sound
    crop = 48 / 1.3 / 110  # crop pixels a template pixel; the face is drawn at half of the template's size
    middle = 30 + 0.5 * (51.6 + 0.06 * 48 / crop)
    for frame, true in zip(read_frames(out), map(frame_at, range(9)), strict=True):
        difference = np.abs(frame.astype(int) - true).mean(-1)
        assert difference[: int(middle) - 2, 60:100].mean() < 2
        assert difference[int(middle) + 8 : 84, 65:92].mean() > 3


def test_swap_alone_keeps_length_and_sound(
    model: SwapTalk, files: Callable[..., dict[str, Path]], tmp_path: Path
) -> None:
    given = files(9)
    alone = model.variant(model.cascade, sync=False)
    out = generate(alone, given["source"], given["target"], None, tmp_path / "o.mp4", progress=False).file
    assert (probe(out).frames, probe(out).has_audio) == (9, True)
    with pytest.raises(TalkgenError, match="no lip-sync module"):
        generate(alone, given["source"], given["target"], given["speech"], out, progress=False)
    with pytest.raises(TalkgenError, match="nothing to do"):
        generate(alone, None, given["target"], None, out, progress=False)
    with pytest.raises(TalkgenError, match="no face-swapping module"):
        lips = model.variant(model.cascade, swap=False)
        generate(lips, given["source"], given["target"], None, out, progress=False)


def test_label_and_whole_crop(model: SwapTalk, files: Callable[..., dict[str, Path]], tmp_path: Path) -> None:
    given = files(6)
    plain, labelled, whole = (
        np.stack(
            list(
                read_frames(
                    generate(
                        model,
                        given["source"],
                        given["target"],
                        None,
                        tmp_path / f"{i}.mp4",
                        crf=4,
                        progress=False,
                        **how,
                    ).file
                )
            )
        ).astype(int)
        for i, how in enumerate(({}, {"label": "synthetic"}, {"paste": "crop"}))
    )
    difference = np.abs(plain - labelled).mean((0, 3))
    assert difference[105:118, 8:50].mean() > 10 and difference[:90].mean() < 1
    true = np.stack([frame_at(i) for i in range(6)])
    touched = [(np.abs(made - true).mean((0, 3)) > 6).sum() for made in (plain, whole)]
    assert touched[1] > touched[0]


def test_template_codes_are_made_once(
    model: SwapTalk, files: Callable[..., dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = files(9, seconds=1.2)
    encoded = []
    encode = SwapTalk.encode
    monkeypatch.setattr(SwapTalk, "encode", lambda self, f: encoded.append(len(f)) or encode(self, f))
    generate(model, given["source"], given["target"], given["speech"], tmp_path / "o.mp4", progress=False)
    assert sum(encoded) == 1 + 9  # the source, and each frame once although 30 are shown
