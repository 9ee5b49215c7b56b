"""Clips in pieces, contenders, and the pass that shows them to the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from talkgen.audio.alignment import mel_window
from talkgen.data.store import Store
from talkgen.errors import MissingWeights, TalkgenError
from talkgen.faces.detection import Face
from talkgen.metrics.contenders import Generated, GroundTruth, Reencoded
from talkgen.metrics.detection_misses import DetectionMisses
from talkgen.metrics.footage import Footage
from talkgen.metrics.held_out import HeldOutClips, choose_clips
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.lmd import LMD
from talkgen.metrics.psnr import PSNR
from talkgen.metrics.scoring import score
from talkgen.video.reader import probe, read_frames


class FrameDetector:
    """Finds one small and one large face; none in a black picture. Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, frame: NDArray[np.uint8]) -> list[Face]:
        self.calls += 1
        if not frame.any():
            return []
        points = np.zeros((5, 2), np.float32)
        boxes = np.array([[0, 0, 4, 4], [8, 8, 30, 40]], np.float32)
        return [Face(box, 1.0, points) for box in boxes]


class BrightnessLandmarker:
    """Places all points by the box' corner and moves the mouth by the picture's mean."""

    def landmarks(self, frame: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        points = np.tile(face.box[:2], (68, 1)).astype(np.float32)
        points[48:, 0] += np.linspace(0, 10, 20)
        points[48:, 1] += frame.mean() * np.linspace(0, 1, 20)
        return points


class Darker:
    """Ground truth minus 10, black at every frame that ``fails`` names."""

    name = "darker"
    in_video = True

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.fails = fails

    def generate(self, clips: HeldOutClips, number: int) -> Iterator[Generated]:
        for start, stop in clips.spans(number):
            frames = (clips.frames(number, start, stop).int() - 10).clamp(0, 255).to(torch.uint8)
            for frame in self.fails:
                if start <= frame < stop:
                    frames[frame - start] = 0
            yield Generated(frames)


@pytest.fixture
def clips(small_store: Store) -> HeldOutClips:
    return HeldOutClips(small_store, choose_clips(small_store.clips, "test", None), size=32, piece=16)


def test_split_falls_back_to_validation(small_store: Store) -> None:
    assert [c.id for c in choose_clips(small_store.clips, None, None)] == ["test/0", "test/1", "test/2"]
    assert [c.id for c in choose_clips(small_store.clips, "test", 2)] == ["test/0", "test/2"]
    without_test = [clip for clip in small_store.clips if clip.split != "test"]
    assert [c.id for c in choose_clips(without_test, None, None)] == ["val/0"]
    with pytest.raises(TalkgenError, match="no test clips to score, it has 1 train, 1 val, 0 test"):
        choose_clips(without_test, "test", None)


def test_pieces_cover_each_clip_once_at_the_models_size(clips: HeldOutClips, small_store: Store) -> None:
    assert list(clips.spans(1)) == [(0, 16), (16, 32), (32, 37)]
    whole = torch.cat([clips.frames(1, *span) for span in clips.spans(1)])
    assert whole.shape == (37, 32, 32, 3)
    stored = small_store.frames(clips.clips[1])
    expected = cv2.resize(stored[20], (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(whole[20].numpy(), expected)
    mouth = clips.mouth_points(0, 0, 2)
    assert mouth[0, 0].tolist() == [(16 + 0.5) / 2 - 0.5, (34 + 0.5) / 2 - 0.5]


def test_mel_windows_follow_the_frames(clips: HeldOutClips, small_store: Store) -> None:
    mel = clips.mel(0, frames=5)
    assert mel.shape == (16, 1, 80, 16)
    window = mel_window(7, 25.0, 5)
    stored = small_store.array(clips.clips[0], "mel")
    assert np.array_equal(mel[7, 0].numpy(), stored[:, window.start : window.stop])
    short = HeldOutClips(small_store, clips.clips[2:], frames=4)
    assert short.mel(0, frames=5).shape[0] == 0


def test_reencoded_ground_truth_is_near_but_not_equal(clips: HeldOutClips) -> None:
    metrics = []
    for crf in (10, 30):
        metric = PSNR()
        streams = zip(GroundTruth().generate(clips, 1), Reencoded(crf).generate(clips, 1), strict=True)
        for truth, coded in streams:
            metric.update(Footage(0, coded.frames, truth.frames))
        metrics.append(metric.compute().item())
    assert 20 < metrics[1] < metrics[0] - 2 < 98


def test_each_frame_is_detected_once_and_ground_truth_is_shared(clips: HeldOutClips, tmp_path: Path) -> None:
    detector = FrameDetector()
    contenders = [GroundTruth(), Darker(fails=(3, 18))]
    metrics = [[PSNR(), LMD("mouth"), LMD("mouth,centred"), DetectionMisses()] for _ in contenders]
    score(contenders, metrics, clips, LandmarkSource(detector, BrightnessLandmarker()), tmp_path)
    frames = 20 + 37 + 12
    assert detector.calls == 2 * frames
    truth_row, darker_row = metrics
    assert [m.compute().item() for m in truth_row] == [100.0, 0.0, 0.0, 0.0]
    assert darker_row[3].per_clip() == pytest.approx({0: 200 / 20, 1: 200 / 37, 2: 100 / 12})
    # The mouth falls by the loss of brightness times 0 … 1, so by half of it; 32 px count as 256.
    falls = []
    for number, fails in enumerate(([3, 18], [3, 18], [3])):
        truth, dark = (
            torch.cat([piece.frames for piece in contender.generate(clips, number)]).double().mean((1, 2, 3))
            for contender in contenders
        )
        found = [frame for frame in range(len(truth)) if frame not in fails]
        falls.append(((truth - dark)[found] * 0.5 * 256 / 32).mean().item())
    assert darker_row[1].compute().item() == pytest.approx(np.mean(falls), rel=1e-5)
    assert 20 < np.mean(falls) < 40


def test_numbers_do_not_depend_on_the_pieces(small_store: Store, tmp_path: Path) -> None:
    values = []
    for piece in (5, 64):
        chosen = choose_clips(small_store.clips, "test", None)
        clips = HeldOutClips(small_store, chosen, size=32, piece=piece)
        metrics = [[PSNR(), PSNR(region="mouth")] for _ in range(2)]
        score([GroundTruth(), Darker()], metrics, clips, None, tmp_path)
        values.append([metric.per_clip() for row in metrics for metric in row])
    assert values[0] == values[1]


def test_sample_video_and_contact_sheet(clips: HeldOutClips, tmp_path: Path) -> None:
    contenders = [GroundTruth(), Reencoded(), Darker()]
    score(contenders, [[], [], []], clips, None, tmp_path)
    info = probe(tmp_path / "sample.mp4")
    assert (info.width, info.height, info.frames, info.has_audio) == (64, 32, 20, True)
    first = next(iter(read_frames(tmp_path / "sample.mp4")))
    left, right = first[:, :32].astype(int), first[:, 32:].astype(int)
    assert (left - right).mean() == pytest.approx(9, abs=2)  # a little less than 10 where black clips
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (22 + 3 * (22 + 192), 3 * 192, 3)


def test_source_takes_the_largest_face_and_gives_nan_where_there_is_none() -> None:
    frames = torch.full((2, 48, 48, 3), 9, dtype=torch.uint8)
    frames[1] = 0
    points = LandmarkSource(FrameDetector(), BrightnessLandmarker())(frames)
    assert points[0, 0].tolist() == [8.0, 8.0]
    assert points[1].isnan().all()


def test_missing_weights_are_named_and_not_faked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    reason = open_landmark_source("insightface")
    assert isinstance(reason, MissingWeights)
    assert "talkgen weights get scrfd_500m" in str(reason)


def test_real_detector_sees_the_noise_of_a_codec(shared: Path) -> None:
    """On a real face the re-encoded picture moves the mouth by a fraction of a pixel, and not by nothing."""
    source = open_landmark_source("insightface")
    if not isinstance(source, LandmarkSource):
        pytest.skip(str(source))
    frame = next(iter(read_frames(shared / "realclips" / "clips" / "may.mp4")))
    _, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 60])
    pair = torch.from_numpy(np.stack([frame, cv2.imdecode(jpeg, cv2.IMREAD_COLOR)]))
    points = source(pair)
    assert not points.isnan().any()
    moved = (points[0, 48:] - points[1, 48:]).norm(dim=-1).mean().item() * 256 / frame.shape[1]
    assert 0 < moved < 2
