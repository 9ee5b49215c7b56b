"""Diff2Lip in use, with a tiny untrained network and a detector that knows where the face is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.audio.waveform import load_waveform, save_waveform
from talkgen.data.windows import as_model
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.faces.detection import Face
from talkgen.inference import changed_video, diff2lip, diff2lip_official, diff2lip_video
from talkgen.inference.diff2lip import Diff2Lip, load_diff2lip, make_sampler
from talkgen.inference.diff2lip_official import (
    Boxes,
    complete_windows,
    generate_official,
    leading_average,
    truncated,
    voxceleb2_box,
)
from talkgen.inference.diff2lip_video import Dubbing, box_matrices, generate, generate_many, paste_mask
from talkgen.inference.reference_frames import choose_references
from talkgen.inference.target_video import TargetVideo, follow_face
from talkgen.models.diff2lip.inpainting import FeatureCache
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import VideoWriter

WIDTH, HEIGHT = 160, 120


def frame_at(index: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    frame = np.stack([x + 30, 2 * y, 200 - x // 2 - y // 2], -1).astype(np.uint8)
    frame[:24, :24] = 20 + 3 * index
    return frame


class Detector:
    """One face in the middle, but in frames 10 to 19."""

    missing = range(10, 20)

    def detect(self, frame: np.ndarray) -> list[Face]:
        if round((float(frame[4:20, 4:20].mean()) - 20) / 3) in self.missing:
            return []
        points = (ARCFACE_TEMPLATE * 0.5 + (50, 30)).astype(np.float32)
        return [Face(np.array([50, 30, 106, 86], np.float32), 0.9, points)]


class Everywhere(Detector):
    missing = range(0)


@pytest.fixture(autouse=True)
def known_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff2lip_video, "make_detector", lambda name: Detector())
    monkeypatch.setattr(diff2lip_official, "make_detector", lambda name: Everywhere())


@pytest.fixture()
def model(tiny_diff2lip: Path) -> Diff2Lip:
    return load_diff2lip(tiny_diff2lip, batch_frames=8)


@pytest.fixture()
def files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Makes a target of ``frames`` and a driving sound of ``seconds``."""

    def make(
        frames: int = 30, fps: float = 25, seconds: float = 1.2, name: str = "target"
    ) -> tuple[Path, Path]:
        buzz = (0.2 * np.sin(np.arange(round(frames / fps * 16000)) / 9)).astype(np.float32)
        target, speech = tmp_path / f"{name}.mp4", tmp_path / f"{name}.wav"
        with VideoWriter(target, fps, WIDTH, HEIGHT, 4, audio=(buzz, 16000)) as writer:
            for index in range(frames):
                writer.write(frame_at(index))
        noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
        save_waveform(speech, noise)
        return target, speech

    return make


class Written:
    """In place of the encoder: keeps the frames as they were before encoding."""

    frames: list[np.ndarray]

    def __init__(self, *args: object, **kwargs: object) -> None:
        Written.frames = []

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def write(self, frame: np.ndarray) -> None:
        Written.frames.append(frame)


# The network in use ----------------------------------------------------------------------------------------


def crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 48, 48, 3), np.uint8)


def test_loading_takes_the_settings_of_the_training(model: Diff2Lip, tiny_diff2lip: Path) -> None:
    assert (model.size, model.crop.size, model.mel_convention) == (32, 48, "official")
    assert model.diffusion.prediction == "x0" and model.sampler == DPMSolver(2)
    assert model.cover == "own" and not model.follows_boxes
    assert not any(p.requires_grad for p in model.unet.parameters())
    run = tiny_diff2lip / "diff2lip_diffusion"
    assert load_diff2lip(run, sampler=DDIM(3)).sampler == DDIM(3)
    with pytest.raises(FileError, match="holds no trained diff2lip_diffusion"):
        load_diff2lip(tiny_diff2lip.parent)
    for name, steps in (("euler", 3), ("ddim", 0)):
        with pytest.raises(TalkgenError, match="give"):
            make_sampler(name, steps)


def test_published_weights_are_used_as_they_were_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size stands for that of the published network, which takes seconds to make."""
    monkeypatch.setattr(diff2lip, "Diff2LipUNet", lambda: Diff2LipUNet(16, 8, (1, 2), 1, audio_channels=8))
    torch.save(diff2lip.Diff2LipUNet().state_dict(), tmp_path / "model.pt")
    model = load_diff2lip(tmp_path / "model.pt")
    assert (model.size, model.crop.size, model.sampler, model.cover) == (16, 16, DDIM(25), "same")
    assert model.follows_boxes and model.diffusion.prediction == "noise"


def test_only_masked_rows_change_and_batches_do_not_matter(model: Diff2Lip) -> None:
    given, references = crops(10), crops(10, 1)
    mels = torch.randn(10, 1, 80, 16, generator=torch.Generator().manual_seed(0))
    made = model.pictures(given, references, mels, range(10))
    assert made.shape == (10, 32, 32, 3)
    from talkgen.data.windows import resize_frames

    small = resize_frames(given, 32)
    assert np.array_equal(made[:, :16], small[:, :16])
    assert np.abs(made[:, 16:].astype(int) - small[:, 16:]).mean() > 5
    model.batch_frames = 3
    again = model.pictures(given, references, mels, range(10))
    assert np.abs(again.astype(int) - made).max() <= 1
    model.batch_frames = 10
    other = model.pictures(given, references, mels.flip(0), range(10))
    assert np.abs(other[:, 16:].astype(int) - made[:, 16:]).max() > 1  # it hears
    hidden = given.copy()
    hidden[:, 24:] = 0
    assert np.array_equal(model.pictures(hidden, references, mels, range(10))[:, 16:], made[:, 16:])


def test_cache_and_half_precision_are_near(tiny_diff2lip: Path, model: Diff2Lip) -> None:
    given, mels = crops(2), torch.zeros(2, 1, 80, 16)
    whole = load_diff2lip(tiny_diff2lip, DDIM(6)).pictures(given, given, mels, [0, 1]).astype(int)
    for how, bound in (({"bf16": True}, 3), ({"cache": FeatureCache(2, 1)}, 50)):
        near = load_diff2lip(tiny_diff2lip, DDIM(6), **how).pictures(given, given, mels, [0, 1])
        assert 0 < np.abs(near - whole)[:, 16:].mean() < bound, how


# References ------------------------------------------------------------------------------------------------


def video(has_face: np.ndarray, cuts: tuple[int, ...] = ()) -> TargetVideo:
    matrices = np.zeros((len(has_face), 2, 3), np.float32)
    return TargetVideo(Path("x.mp4"), 25.0, 9, 9, matrices, has_face, cuts)


def test_a_reference_is_far_from_the_frames_it_serves() -> None:
    references = choose_references(video(np.ones(91, bool)))
    assert references.numbers == (30, 60)
    distance = np.abs(np.arange(91) - np.array(references.numbers)[references.of_frame])
    assert distance.min() == 10
    assert (np.diff(references.of_frame) != 0).sum() == 2  # the other one for the neighbours of the first


def test_every_shot_has_references_of_its_own_and_nothing_is_asked_of_empty_frames() -> None:
    has_face = np.ones(100, bool)
    has_face[40:60] = False
    references = choose_references(video(has_face, (50, 98)))
    assert (references.of_frame[~has_face] == -1).all()
    numbers = np.array(references.numbers)[references.of_frame]
    assert (numbers[:40] < 40).all()
    assert (numbers[60:98] >= 60).all() and (numbers[60:98] < 98).all()
    assert numbers[98:].tolist() == [99, 98]  # of two frames each shows the other
    lone = choose_references(video(np.array([False, True, False])))
    assert lone.numbers == (1,) and lone.of_frame.tolist() == [-1, 0, -1]


# From files to files ---------------------------------------------------------------------------------------


def test_what_is_not_generated_is_the_input_to_the_bit(
    model: Diff2Lip, files: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(changed_video, "VideoWriter", Written)
    target, speech = files()
    made = generate(model, target, speech, tmp_path / "out.mp4", progress=False)
    assert (made.frames, made.without_face, made.fps) == (30, 10, 25)
    decoded = list(read_frames(target))
    assert len(Written.frames) == len(decoded) == 30
    followed = follow_face(target, model.crop, Detector(), progress=False)
    for number, (frame, given) in enumerate(zip(Written.frames, decoded, strict=True)):
        if not followed.has_face[number]:
            assert np.array_equal(frame, given)
            continue
        changed = (frame != given).any(-1)
        assert changed.any()
        matrix = followed.matrices[number]
        ys, xs = np.nonzero(changed)
        x, y = matrix[:, :2] @ np.stack([xs, ys]) + matrix[:, 2:]
        # Crop pixels: below the middle, and inside; half a pixel of the small crop is interpolated.
        assert y.min() >= 24 - 1.5 and y.max() <= 48 and x.min() >= -1 and x.max() <= 48


@pytest.mark.parametrize("fps", [25, 30000 / 1001])
def test_the_tail_is_kept_and_the_sound_is_there(
    model: Diff2Lip, files: Callable[..., tuple[Path, Path]], tmp_path: Path, fps: float
) -> None:
    target, speech = files(frames=9, fps=fps, seconds=0.71)
    generate(model, target, speech, tmp_path / "out.mp4", paste="crop", progress=False)
    info = probe(tmp_path / "out.mp4")
    assert info.frames == int(0.71 * fps + 1e-6) and info.fps == pytest.approx(fps, rel=1e-3)
    assert (info.width, info.height, info.has_audio) == (WIDTH, HEIGHT, True)
    heard, given = load_waveform(tmp_path / "out.mp4"), load_waveform(speech)
    count = min(len(heard), len(given))
    assert np.corrcoef(heard[:count], given[:count])[0, 1] > 0.9


def test_batches_run_across_videos(
    model: Diff2Lip, files: Callable[..., tuple[Path, Path]], tmp_path: Path
) -> None:
    jobs = [
        Dubbing(*files(frames=5, seconds=0.2, name=f"clip{i}"), tmp_path / f"out{i}.mp4") for i in range(3)
    ]
    sizes: list[int] = []
    pictures = model.pictures

    def counted(crops: np.ndarray, *others: object) -> np.ndarray:
        sizes.append(len(crops))
        return pictures(crops, *others)  # type: ignore[arg-type]

    model.pictures = counted  # type: ignore[method-assign]
    made = list(generate_many(model, jobs, progress=False))
    assert [one.frames for one in made] == [5, 5, 5] and sizes == [8, 7]
    alone = generate(model, jobs[2].target, jobs[2].audio, tmp_path / "alone.mp4", progress=False)
    for together, single in zip(read_frames(made[2].file), read_frames(alone.file), strict=True):
        assert np.abs(together.astype(int) - single).mean() < 1


def test_memory_does_not_grow_with_the_length(
    model: Diff2Lip, files: Callable[..., tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At most five pieces of frames are between the reader and the writer."""
    monkeypatch.setattr(changed_video, "VideoWriter", Written)
    monkeypatch.setattr(diff2lip_video, "make_detector", lambda name: Everywhere())
    model.batch_frames = 2
    target, speech = files(frames=60, seconds=2.4)
    read, ahead, original = [0], [0], TargetVideo.read

    def counted(self: TargetVideo, order: np.ndarray) -> Iterator[np.ndarray]:
        for frame in original(self, order):
            if len(order) == 60:
                read[0] += 1
                ahead[0] = max(ahead[0], read[0] - len(getattr(Written, "frames", [])))
            yield frame

    monkeypatch.setattr(TargetVideo, "read", counted)
    Written.frames = []
    assert generate(model, target, speech, tmp_path / "out.mp4", progress=False).frames == 60
    assert 2 <= ahead[0] <= 5 * 2 + 1


def test_the_part_that_is_put_back(model: Diff2Lip) -> None:
    for paste in ("face", "crop"):
        mask = paste_mask(model, paste)
        assert mask.shape == (32, 32) and not mask[:16].any() and mask.max() == 1
    assert paste_mask(model, "face")[31].sum() < paste_mask(model, "crop")[29].sum()
    with pytest.raises(TalkgenError, match="give face or crop"):
        generate(model, "x", None, "y.mp4", paste="mouth")


def test_boxes_become_matrices_whose_window_is_centred() -> None:
    """A face that moves at 5 pixels a frame: the published average would be 10 pixels ahead."""
    boxes = np.array([[10, 20, 74, 84]], np.float32) + 5 * np.arange(20, dtype=np.float32)[:, None]

    class Track:
        pass

    track = Track()
    track.boxes = boxes  # type: ignore[attr-defined]
    matrices = box_matrices(128)(track, 25)  # type: ignore[arg-type]
    middle = (boxes[7, :2] + boxes[7, 2:] - 1) / 2  # of the box, in pixel centres
    np.testing.assert_allclose(matrices[7][:, :2] @ middle + matrices[7][:, 2], [63.5, 63.5], atol=1e-3)


# As published ----------------------------------------------------------------------------------------------


def test_published_boxes_lead_the_face() -> None:
    """A face that moves at 5 pixels a frame: 10 ahead, and at the end +7, +3, −1, −7."""
    boxes = np.arange(20)[:, None] * 5 + np.array([[0, 0, 60, 60]])
    error = leading_average(boxes)[:, 0] - boxes[:, 0]
    assert error.tolist() == [10] * 16 + [7, 3, -1, -7]
    assert len(leading_average(boxes[:3])) == 3


def test_published_crop_and_windows() -> None:
    x0, y0, x1, y1 = voxceleb2_box(224, 224)
    assert (y1 - y0, x1 - x0) == (158, 124)
    assert complete_windows(401) == 122 and complete_windows(801) == 247  # 5 s and 10 s of sound
    assert complete_windows(15) == 0


def test_published_paste_is_the_whole_box() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)
    boxes = Boxes(np.array([[10, 20, 40, 50]]))
    assert boxes.cut(0, frame, 16).shape == (16, 16, 3)
    put = boxes.put(0, frame, np.full((16, 16, 3), 9, np.uint8))
    assert (put[20:50, 10:40] == 9).all()
    put[20:50, 10:40] = frame[20:50, 10:40]
    assert np.array_equal(put, frame)
    assert truncated(torch.full((1, 3, 1, 1), 0.999)).tolist() == [[[[254, 254, 254]]]]


def test_the_published_script(
    model: Diff2Lip, files: Callable[..., tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 frames a second, frames without a whole window are dropped, the reference is the frame itself."""
    target, speech = files(frames=36, fps=30, seconds=1.2)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    sample = model.sample
    monkeypatch.setattr(
        model,
        "sample",
        lambda x, reference, *rest: seen.append((x, reference)) or sample(x, reference, *rest),
    )
    made = generate_official(model, target, speech, tmp_path / "out.mp4", progress=False)
    assert made.frames == 27 == probe(made.file).frames and made.fps == 25
    assert all(torch.equal(x, reference) for x, reference in seen) and len(seen) == 4
    fixed = generate_official(model, target, None, tmp_path / "vox.mp4", voxceleb2=True, progress=False)
    assert fixed.frames == 27
    monkeypatch.setattr(diff2lip_official, "make_detector", lambda name: Detector())
    with pytest.raises(FileError, match="has no face in frame"):
        generate_official(model, target, speech, tmp_path / "out.mp4", progress=False)


def test_pictures_keep_what_a_frame_is(model: Diff2Lip) -> None:
    """Sampling in one batch is what ``pictures`` rounds."""
    given = crops(2)[:, :32, :32]
    mels = torch.zeros(2, 1, 80, 16)
    target = as_model(torch.from_numpy(given))
    made = model.pictures(given, given, mels, [0, 1])
    sampled = model.sample(target, target, mels, [0, 1])
    assert np.abs(((sampled.permute(0, 2, 3, 1) + 1) * 127.5).numpy() - made).max() <= 0.51
