"""What the invisible watermark costs, how well it is found again, and how often where there is none.

    python benchmarks/provenance.py clips/            # a folder of videos; prints the tables
    python benchmarks/provenance.py clips/ --write    # also keeps them in docs/performance/provenance.md

Two seconds of every clip are marked and written as ``talkgen generate`` does (crf 18), then made half as wide
and high and written again at crf 28. The baseline is the same clip written without a mark.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from document import keep
from timing import seconds

from talkgen.provenance import FRAMES, spread_frames
from talkgen.video.reader import probe, read_frames
from talkgen.video.watermark import THRESHOLD, Watermark, detect
from talkgen.video.writer import VideoWriter

SECONDS = 2.0
SIZES = ((640, 360), (1280, 720), (1920, 1080))


def psnr(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    errors = [np.mean((x.astype(np.float32) - y) ** 2) for x, y in zip(a, b, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def written(file: Path, frames: list[np.ndarray], crf: float) -> list[np.ndarray]:
    height, width = frames[0].shape[:2]
    with VideoWriter(file, 25, width, height, crf=crf) as writer:
        for frame in frames:
            writer.write(frame)
    return [frame[:height, :width] for frame in read_frames(file)]


def examined(frames: list[np.ndarray]) -> float:
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    return detect(frames[index] for index in chosen).score


def of_clip(clip: Path, folder: Path) -> dict[str, float]:
    """Costs and scores of one clip."""
    frames = list(read_frames(clip, seconds=SECONDS))
    height, width = frames[0].shape[:2]
    mark = Watermark(width, height)
    marked = [mark(frame) for frame in frames]
    plain = written(folder / "plain.mp4", frames, 18)
    made = written(folder / "made.mp4", marked, 18)
    half = (max(2, width // 4 * 2), max(2, height // 4 * 2))
    small = [cv2.resize(frame, half, interpolation=cv2.INTER_AREA) for frame in made]
    plain_bytes, made_bytes = ((folder / f"{name}.mp4").stat().st_size for name in ("plain", "made"))
    return {
        "side": float(min(width, height)),
        "mark": psnr(frames, marked),
        "plain": psnr(frames, plain),
        "made": psnr(frames, made),
        "bytes": made_bytes / plain_bytes,
        "crf 18": examined(made),
        "half, crf 28": examined(written(folder / "half.mp4", small, 28)),
        "unmarked": detect(spread_frames(clip, FRAMES)).score,
        "unmarked, crf 18": examined(plain),
        "others": max(detect(frames[::8], key=f"nobody {i}").score for i in range(5)),
    }


def milliseconds(width: int, height: int) -> tuple[float, float, float]:
    """Least times of a mark, of writing a frame without one, and of examining a frame."""
    rng = np.random.default_rng(0)
    frame = cv2.resize(rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8), (width, height))
    mark = Watermark(width, height)

    def least(call: Callable[[], object], repeats: int) -> float:
        return 1000 * seconds(call, repeats, wall=True)

    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(Path(folder) / "a.mp4", 25, width, height) as writer,
    ):
        encoding = least(lambda: writer.write(frame), 60)
    return least(lambda: mark(frame), 60), encoding, least(lambda: detect([frame]), 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    given = parser.parse_args()
    clips = [file for file in sorted(given.clips.glob("*.mp4")) if probe(file).frames > 1]
    with tempfile.TemporaryDirectory() as folder:
        rows = [of_clip(clip, Path(folder)) for clip in clips]
    column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    lines = [
        f"{len(rows)} clips of {column['side'].min():.0f} to {column['side'].max():.0f} pixels, "
        f"{SECONDS:g} s of each, {FRAMES} frames examined. A score of {THRESHOLD:g} and more counts as "
        "found.",
        "",
        "| | found | least score | median | greatest |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, what in (
        ("crf 18", "marked, crf 18"),
        ("half, crf 28", "marked, crf 18, half size, crf 28"),
        ("unmarked", "unmarked, as it is"),
        ("unmarked, crf 18", "unmarked, crf 18"),
        ("others", "unmarked, the best of 5 other keys"),
    ):
        score = column[name]
        lines.append(
            f"| {what} | {(score >= THRESHOLD).sum()} of {len(score)} | {score.min():.1f} | "
            f"{np.median(score):.1f} | {score.max():.1f} |"
        )
    lines += [
        "",
        "| PSNR against the clip, dB | mean | least |",
        "|---|---:|---:|",
        *(
            f"| {what} | {column[name].mean():.1f} | {column[name].min():.1f} |"
            for name, what in (
                ("mark", "the mark alone"),
                ("plain", "crf 18 without mark"),
                ("made", "crf 18 with mark"),
            )
        ),
        "",
        f"Files grow by {100 * (column['bytes'].mean() - 1):.0f} % on the mean "
        f"(at most {100 * (column['bytes'].max() - 1):.0f} %).",
        "",
        "| least ms a frame | marking | times writing a frame without it | examining |",
        "|---|---:|---:|---:|",
    ]
    for width, height in SIZES:
        marking, encoding, examining = milliseconds(width, height)
        lines.append(f"| {width} × {height} | {marking:.2f} | {marking / encoding:.3f} | {examining:.1f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if given.write:
        keep("provenance", "Watermark", text)


if __name__ == "__main__":
    main()
