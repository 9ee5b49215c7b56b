"""The mark is invisible, is found after what happens to videos, and is found nowhere else."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from talkgen.video.reader import read_frames
from talkgen.video.watermark import STRENGTH, THRESHOLD, Watermark, detect
from talkgen.video.writer import VideoWriter


def scene(index: int, width: int = 256, height: int = 192) -> np.ndarray:
    """A textured picture with something that moves in it."""
    rng = np.random.default_rng(3)
    noise = cv2.resize(rng.uniform(60, 190, (24, 32, 3)).astype(np.float32), (width, height))
    fine = cv2.resize(rng.normal(0, 12, (96, 128, 3)).astype(np.float32), (width, height))
    cv2.circle(noise, (width // 4 + 3 * index, height // 2), height // 5, (200, 150, 120), -1)
    return np.clip(noise + fine, 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_what_is_added_is_grey_faint_and_the_same_everywhere() -> None:
    marked = Watermark(320, 180)(np.full((180, 320, 3), 100, np.uint8)).astype(int) - 100
    assert (np.ptp(marked, -1) == 0).all()
    assert marked.std() == pytest.approx(STRENGTH, rel=0.1) and abs(marked.mean()) < 0.1
    assert psnr(Watermark(256, 192)(scene(0)), scene(0)) > 41.5
    ends = np.zeros((64, 64, 3), np.uint8)
    ends[32:] = 255
    assert np.abs(Watermark(64, 64)(ends).astype(int) - ends).max() < 20  # nothing wraps around


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[np.ndarray]]:
    """One video as it was written, and what became of it elsewhere."""
    folder = tmp_path_factory.mktemp("marked")

    def written(frames: list[np.ndarray], crf: float, **how: bool) -> list[np.ndarray]:
        height, width = frames[0].shape[:2]
        with VideoWriter(folder / "a.mp4", 25, width, height, crf=crf, **how) as writer:
            for frame in frames:
                writer.write(frame)
        return list(read_frames(folder / "a.mp4"))

    plain = [scene(i) for i in range(24)]
    made = written(plain, 18, synthetic=True)
    half = [cv2.resize(frame, (128, 96), interpolation=cv2.INTER_AREA) for frame in made]
    return {
        "made": made,
        "half size, crf 28": written(half, 28),
        "mirrored": [frame[:, ::-1] for frame in made],
        "another shape": [cv2.resize(frame, (200, 200)) for frame in made],
        "unmarked": written(plain, 18),
        "left out": written(plain, 18, synthetic=True, watermark=False),
    }


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("made", True),
        ("half size, crf 28", True),
        ("mirrored", True),
        ("another shape", True),
        ("unmarked", False),
        ("left out", False),
    ],
)
def test_what_is_found(spread: dict[str, list[np.ndarray]], what: str, found: bool) -> None:
    seen = detect(spread[what])
    assert seen.found is found and seen.frames == 24
    assert seen.score > 1.3 * THRESHOLD if found else seen.score < 0.8 * THRESHOLD


def test_another_key_is_not_found(spread: dict[str, list[np.ndarray]]) -> None:
    assert not detect(spread["made"], key="somebody else").found
    own = [Watermark(256, 192, key="somebody else")(scene(i)) for i in range(8)]
    assert detect(own, key="somebody else").found and not detect(own).found


def test_chance_is_what_the_score_says() -> None:
    """Unmarked noise: standard normal scores, of which the greater of two directions is taken."""
    rng = np.random.default_rng(0)
    scores = np.array([detect([rng.integers(0, 255, (64, 64, 3), np.uint8)]).score for _ in range(60)])
    assert scores.max() < THRESHOLD and abs(scores.mean() - 0.56) < 0.5


def test_nothing_to_look_at() -> None:
    assert detect([np.zeros((40, 40, 3), np.uint8)]).score == 0
    with pytest.raises(ValueError, match="no frame"):
        detect([])


def test_marking_costs_little() -> None:
    mark, frame = Watermark(1280, 720), np.zeros((720, 1280, 3), np.uint8)
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        mark(frame)
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.01  # 1 ms on a quiet core


def test_a_real_clip_at_half_its_size(shared: Path, tmp_path: Path) -> None:
    clip = shared / "realclips" / "clips" / "hartzler.mp4"
    frames = list(read_frames(clip, seconds=1.0))
    height, width = frames[0].shape[:2]
    assert not detect(frames).found
    mark = Watermark(width, height)
    small = (width // 2, height // 2)
    with VideoWriter(tmp_path / "a.mp4", 25, *small, crf=28) as writer:
        for frame in frames:
            writer.write(cv2.resize(mark(frame), small, interpolation=cv2.INTER_AREA))
    assert detect(read_frames(tmp_path / "a.mp4")).found
