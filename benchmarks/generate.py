"""What ``talkgen generate`` keeps of a video: length, sound, the pixels around the face, and memory.

    python benchmarks/generate.py clips/ --run runs/swaptalk-demo            # prints the tables
    python benchmarks/generate.py clips/ --run runs/swaptalk-demo --write    # keeps them in docs/performance
    python benchmarks/generate.py clips/ --run runs/swaptalk-demo --only memory --seconds 5 60 --write

Three real clips are put into 1920 × 1080 at 25, 30 and 23.976 frames a second (``--only pixels``), and one of
them is played to and fro until it lasts 5 and 60 seconds (``--only memory``: some six minutes of one core).
Each goes through the real command in a process of its own, lips only. Pixels are compared where nothing is
generated, with those of the same video written anew without a change: that is the encoder's own noise. The
sound of the video may end up to one frame after its pictures, and the result lasts as long as the sound.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from document import keep

from talkgen.audio.waveform import load_waveform
from talkgen.inference.target_video import ping_pong
from talkgen.video.reader import probe, read_frames
from talkgen.video.writer import VideoWriter

RATES = (Fraction(25), Fraction(30), Fraction(24000, 1001))
CLIP_SECONDS = 2.0
MEASURE = (
    "import resource, sys\n"
    "from talkgen.cli import main\n"
    "code = main(sys.argv[1:])\n"
    "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    "sys.exit(code)\n"
)


def face_side(height: int) -> int:
    """Side of the square, in the middle of the picture, that holds the clip."""
    return height * 3 // 5 // 2 * 2


@dataclass(frozen=True)
class Outcome:
    """What a command said and took."""

    megabytes: float
    times_real: float
    missed: int


def enlarged(clip: Path, out: Path, rate: Fraction, seconds: float, height: int) -> Path:
    """The clip in the middle of a larger, textured picture, with its own sound."""
    frames = list(read_frames(clip, rate, seconds=CLIP_SECONDS))
    sound = load_waveform(clip)[: round(16000 * CLIP_SECONDS)]
    sound = np.tile(sound, 1 + round(seconds // CLIP_SECONDS))
    count = int(seconds * rate)
    width, side = height * 16 // 9, face_side(height)
    ground = np.random.default_rng(0).integers(60, 180, (27, 48, 3), np.uint8)
    ground = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
    top, left = (height - side) // 2, (width - side) // 2
    audio = (sound[: int(16000 * count / rate)], 16000)
    with VideoWriter(out, float(rate), width, height, crf=12, audio=audio, preset="ultrafast") as writer:
        for number in ping_pong(len(frames), count):
            picture = ground.copy()
            picture[top : top + side, left : left + side] = cv2.resize(frames[number], (side, side))
            writer.write(picture)
    return out


def generated(target: Path, out: Path, run: Path, *more: str) -> Outcome:
    """The real command in a process of its own."""
    own = [f"target={target}", f"out={out}", f"run={run.name}", f"paths.runs={run.parent}", *more]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, "generate", *own], capture_output=True, text=True, check=True
    )
    peak, factor = re.search(r"peak (\d+)", done.stdout), re.search(r"([\d.]+) × real", done.stdout)
    missed = re.search(r"(\d+) without a face", done.stdout)
    assert peak is not None and factor is not None and missed is not None
    return Outcome(int(peak[1]) / 1024, float(factor[1]), int(missed[1]))


def packets(file: Path) -> list[bytes]:
    """The sound as it is stored."""
    with av.open(str(file)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def outside(a: Path, b: Path) -> float:
    """PSNR of everything but the middle of the picture, where the face is."""
    errors = []
    info = probe(a)
    left, right = (info.width - face_side(info.height)) // 2, (info.width + face_side(info.height)) // 2
    for x, y in zip(read_frames(a), read_frames(b), strict=False):
        for part in (slice(0, left), slice(right, info.width)):
            errors.append(np.mean((x[:, part].astype(np.float32) - y[:, part]) ** 2))
    return float(10 * np.log10(255**2 / np.mean(errors)))


def kept(clip: Path, rate: Fraction, run: Path, folder: Path, height: int) -> str:
    """A row of the first table."""
    target, out, again = (folder / f"{name}.mp4" for name in ("target", "out", "again"))
    enlarged(clip, target, rate, CLIP_SECONDS, height)
    outcome = generated(target, out, run, "watermark=false")
    info, made = probe(target), probe(out)
    with VideoWriter(again, info.fps, info.width, info.height, crf=18) as writer:
        for frame in read_frames(target):
            writer.write(frame)
    noise, difference = outside(target, again), outside(target, out)
    generated(target, out, run)
    marked = outside(target, out)
    sound = packets(target), packets(out)
    same = sound[0][: len(sound[1])] == sound[1] and len(sound[0]) - len(sound[1]) <= 2
    return (
        f"| {float(rate):.3f} | {info.frames} | {made.frames} | {made.seconds - info.seconds:+.3f} "
        f"| {'same packets' if same else 'changed'} | {noise:.1f} | {difference:.1f} | {marked:.1f} "
        f"| {outcome.missed} |"
    )


def length(clip: Path, seconds: float, run: Path, folder: Path, height: int) -> str:
    """A row of the second table."""
    target = enlarged(clip, folder / "long.mp4", RATES[0], seconds, height)
    outcome = generated(target, folder / "out.mp4", run)
    return f"| {seconds:g} s | {outcome.megabytes:.0f} | {outcome.times_real:.1f} |"


def pixels_table(rows: list[str], run: Path, height: int) -> str:
    """What is kept, as it stands in docs/performance."""
    lines = [
        f"{len(rows)} clips in {height * 16 // 9} × {height} by {run.name}, lips only. PSNR in dB where "
        "nothing is generated.",
        "",
        "| fps | frames | of the result | seconds more | sound | written anew | generated | with watermark "
        "| frames without a face |",
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def memory_table(rows: list[str], run: Path, height: int) -> str:
    """Memory over length, as it stands in docs/performance."""
    lines = [
        f"A clip in {height * 16 // 9} × {height} by {run.name}, lips only.",
        "",
        "| length | peak memory, MB | seconds of work a second of video, start included |",
        "|---|---:|---:|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of talking-face clips")
    parser.add_argument("--run", type=Path, required=True, help="folder of a trained method")
    parser.add_argument("--height", type=int, default=1080, help="pixels (default 1080)")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5, 60], help="lengths (default 5 60)")
    parser.add_argument("--only", choices=("pixels", "memory"), help="one of the tables")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    given = parser.parse_args()
    clips = talking(given.clips)
    how = given.run, given.height
    texts = {}
    with tempfile.TemporaryDirectory() as name:
        at = given.run, Path(name), given.height
        if given.only != "memory":
            rows = [kept(clip, rate, *at) for clip, rate in zip(clips, RATES, strict=True)]
            texts["table"] = pixels_table(rows, *how)
        if given.only != "pixels":
            texts["memory"] = memory_table([length(clips[0], s, *at) for s in given.seconds], *how)
    for part, text in texts.items():
        print(text)
        if given.write:
            keep("generate", "talkgen generate", text, part)


def talking(folder: Path) -> list[Path]:
    """As many clips with sound as there are rates."""
    found = (file for file in sorted(folder.glob("*.mp4")) if probe(file).seconds >= CLIP_SECONDS)
    return [file for file in found if probe(file).has_audio][: len(RATES)]


if __name__ == "__main__":
    main()
