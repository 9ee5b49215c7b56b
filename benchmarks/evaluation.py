"""All columns of metrics=papers at once against one script after the other, and a second run from the cache.

    python benchmarks/evaluation.py clips/            # 40 clips of 5 s at most; prints the table
    python benchmarks/evaluation.py clips/ --write    # and keeps it in docs/performance/evaluation.md
    python benchmarks/evaluation.py clips/ --size 256 --baseline-clips 2    # under an hour of one core

The generated videos are the true ones at crf 32. The baseline is what published evaluation code does, with
talkgen's own arithmetic, so that only the organisation differs: every script by itself reads both folders
again, detects faces again where it needs them, runs its network again, and a Fréchet distance takes scipy's
matrix root of 2048 × 2048 covariances. What one published script prints together (PSNR and SSIM, all about
blinks, …) counts as one. Each part runs in a process of its own; opening networks is not counted. Times are
processor seconds, or seconds by the clock where networks run on a GPU. Columns whose weights are missing are
left out of both.

With ``--baseline-clips`` the scripts and the runs with a cache are measured on the first clips alone, and
their seconds multiplied by the share of frames; scipy's matrix roots, whose time does not depend on the
number of frames, are counted as they are. Only "all columns" is then measured on all clips.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from document import keep
from omegaconf import OmegaConf
from torch import Tensor

from talkgen.audio.waveform import load_waveform
from talkgen.configuration import build, config_folder
from talkgen.data.corpora.layout import find_videos
from talkgen.errors import TalkgenError
from talkgen.metrics import cpbd, fid, fvd, lpips, niqe, pose_error, shared_features, ssim, warping_error
from talkgen.metrics.contenders import GroundTruth, VideoRow
from talkgen.metrics.feature_cache import FeatureCache, remembering
from talkgen.metrics.identity_source import Gallery, open_identity_source, warps_of
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.scoring import score
from talkgen.metrics.shared_features import SharedFeatures, expert_device
from talkgen.metrics.video_clips import VideoClips, VideoFile
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter

ONE_SCRIPT = (
    ("psnr", "ssim"),
    ("psnr_mouth", "ssim_mouth"),
    ("cpbd", "cpbd_difference"),
    ("mouth_opening", "mouth_amplitude"),
    ("lse_c", "lse_d", "av_offset", "lse_c_any_length"),
    ("sync_confidence", "sync_distance", "sync_offset"),
    ("blinks", "blinks_fixed", "blink_rate_error", "eyes_shut"),
    ("tof", "tlpips"),
)
"""Columns that one published script prints together."""
LAST = "lpips_mouth"
"""The column that comes later in the last line of the table."""
_root_seconds: list[float] = []
"""Of scipy's matrix roots in this process."""

Nodes = dict[str, Any]


def presets(sync_expert: str | None, columns: Sequence[str]) -> Nodes:
    """Names of the columns that can be measured here → what makes them."""
    cfg = OmegaConf.create(
        {
            "recogniser": "edgeface_s",
            "sync_expert": sync_expert,
            "metrics": OmegaConf.load(config_folder() / "metrics" / "papers.yaml"),
        }
    )
    nodes = {name: cfg.metrics[name] for name in cfg.metrics if not columns or name in columns}
    made = {name: build(node) for name, node in nodes.items()}
    return {
        name: node
        for name, node in nodes.items()
        if not isinstance(made[name], NeedsWeights) or made[name].lacking is None
    }


def scripts(nodes: Nodes) -> dict[str, Nodes]:
    """Name of a script → the columns that it gives."""
    found: dict[str, Nodes] = {}
    for name, node in nodes.items():
        group = next((group for group in ONE_SCRIPT if name in group), (name,))
        found.setdefault(" + ".join(one for one in group if one in nodes), {})[name] = node
    return found


def scipy_frechet(x: Tensor, y: Tensor) -> Tensor:
    """As pytorch-fid computes it."""
    from scipy.linalg import sqrtm

    a, b = x.double().numpy(), y.double().numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    offset = np.eye(len(first)) * 1e-6
    begin = time.process_time()
    root = sqrtm((first + offset) @ (second + offset))
    _root_seconds.append(time.process_time() - begin)
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return torch.tensor(shift + np.trace(first) + np.trace(second) - 2 * np.trace(np.real(root)))


@contextmanager
def scipy_root() -> Iterator[None]:
    """Fréchet distances by scipy's matrix root."""
    modules = [importlib.import_module(f"talkgen.metrics.{name}") for name in ("fid", "fvd")]
    kept = [module.frechet_distance for module in modules]
    for module in modules:
        module.frechet_distance = scipy_frechet  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, function in zip(modules, kept, strict=True):
            module.frechet_distance = function  # type: ignore[attr-defined]


def forget() -> None:
    """Empty what is kept in memory, as a new process would find it; networks stay open."""
    for module in (cpbd, fid, fvd, lpips, niqe, pose_error, ssim, warping_error, shared_features):
        for value in vars(module).values():
            for one in value.values() if isinstance(value, dict) else [value]:
                if isinstance(one, SharedFeatures):
                    one._kept.clear()
    for opened in (
        lambda: fid.inception_features(fid.available_name(), "pytorch-fid"),
        lambda: fid.inception_features(fid.available_name(), "clean-fid"),
        fvd.i3d_features,
        pose_error.tddfa_coefficients,
        lambda: lpips._distances("alex"),
        lambda: lpips.piece_distances("alex"),
        lambda: niqe._frames_niqe("y"),
    ):
        try:
            opened()._kept.clear()
        except TalkgenError:
            continue


def write_clips(folder: Path, clips: int, frames: int, work: Path, size: int | None = None) -> None:
    """True and generated videos, and the list of them; ``size``: pixels of the shorter side."""
    truth = [folder / name for name in find_videos(folder)][:clips]
    listed = []
    for number in range(clips):
        file = truth[number % len(truth)]
        pictures = list(islice(read_frames(file, fps=25), frames))
        sound = load_waveform(file)[: len(pictures) * 640]
        height, width = pictures[0].shape[:2]
        if size is not None and size != min(height, width):
            scale = size / min(height, width)
            width, height = (2 * round(side * scale / 2) for side in (width, height))
            pictures = [cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in pictures]
        for kind, crf in (("true", 12), ("made", 32)):
            video = work / f"{kind}{number}.mp4"
            with VideoWriter(video, 25, width, height, crf, audio=(sound, 16000)) as writer:
                for picture in pictures:
                    writer.write(picture)
        listed.append(file.stem)
    (work / "clips.json").write_text(json.dumps(listed))


class Bench:
    """The clips, and one pass of some metrics over them.

    Args:
        work: from ``write_clips``.
        clips: at most so many.
        frames: at most so many of each.
        landmarks: the detector.
    """

    def __init__(
        self, work: Path, clips: int | None = None, frames: int | None = None, landmarks: str = "auto"
    ) -> None:
        people = json.loads((work / "clips.json").read_text())[:clips]
        self.files = [VideoFile(f"{n}", work / f"true{n}.mp4", who) for n, who in enumerate(people)]
        self.made = [work / f"made{number}.mp4" for number in range(len(people))]
        self.detector = landmarks
        self.limits = [min(file.frames(25).count, frames or 10**6) for file in self.files]

    def run(self, nodes: Nodes) -> None:
        """Score the truth and the generated videos, with what these metrics need."""
        clips = VideoClips(self.files, self.limits)
        metrics = [[build(node) for node in nodes.values()] for _ in range(2)]
        needs = {need for metric in metrics[0] for need in metric.needs}
        look = needs & {"landmarks", "mouth", "identity", "wanted"}
        landmarks = open_landmark_source(self.detector) if look else None
        source = landmarks if isinstance(landmarks, LandmarkSource) else None
        shared = None if source is None else SharedFeatures(source, name="landmarks")
        identity: Any = open_identity_source("edgeface_s", 4) if needs & {"identity", "wanted"} else None
        identity = None if isinstance(identity, TalkgenError) else identity
        gallery = None
        if identity is not None and source is not None:
            first = [clips.frames(n, 0, 1) for n in range(len(clips))]
            vectors = torch.cat([identity(frame, warps_of(source(frame))) for frame in first])
            gallery = Gallery([file.identity for file in self.files], vectors)
        row = VideoRow("made", self.made, [True] * len(self.files))
        with tempfile.TemporaryDirectory() as out:
            score([GroundTruth(), row], metrics, clips, shared, Path(out), identity, gallery)
        for metric in (one for each in metrics for one in each):
            metric.compute()


def seconds(call: Callable[[], None]) -> float:
    """Of the processor, or by the clock where networks run on a GPU."""
    clock = time.perf_counter if expert_device().type == "cuda" else time.process_time
    begin = clock()
    call()
    return clock() - begin


def measure(
    part: str, work: Path, nodes: Nodes, landmarks: str, baseline_clips: int | None = None
) -> dict[str, float]:
    """Seconds of a part for all clips, and the largest memory of this process in MB."""
    whole, small = Bench(work, landmarks=landmarks), Bench(work, 1, 32, landmarks)
    bench = whole if part == "together" else Bench(work, baseline_clips, landmarks=landmarks)
    every = {**scripts(nodes), "together": nodes, "cached": nodes}[part]
    small.run(every)  # opens networks and compiles
    forget()
    found = {}
    if part == "cached":
        last = LAST if LAST in nodes else list(nodes)[-1]
        fewer = {name: node for name, node in nodes.items() if name != last}
        with tempfile.TemporaryDirectory(dir=work) as folder:
            cache = FeatureCache(folder, 10**11)
            for name, columns in (("", fewer), ("one more", nodes), ("again", nodes)):
                with remembering(cache):
                    found[name] = seconds(lambda columns=columns: bench.run(columns))  # type: ignore[misc]
                forget()
    elif part == "together":
        found[part] = seconds(lambda: bench.run(every))
    else:
        _root_seconds.clear()
        with scipy_root():
            found[part] = seconds(lambda: bench.run(every))
    share = sum(whole.limits) / sum(bench.limits)
    found = {name: for_all(value, sum(_root_seconds), share) for name, value in found.items()}
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def for_all(measured: float, roots: float, share: float) -> float:
    """Seconds for ``share`` times the frames; those of matrix roots stay as they are."""
    return (measured - roots) * share + roots


def table(found: dict[str, dict[str, float]], columns: int, last: str) -> list[str]:
    """Its lines."""
    alone = {name: part[name] for name, part in found.items() if name not in ("together", "cached")}
    total, together = sum(alone.values()), found["together"]["together"]
    largest = max(found[name]["memory"] for name in alone)

    def line(what: str, ours: float, memory: float) -> str:
        times = f"{total:.0f} | {ours:.1f} | {total / ours:.1f}"
        return f"| {what} | {times} | {largest:.0f} | {memory:.0f} |"

    cached = found["cached"]
    slowest = sorted(alone, key=lambda name: alone[name], reverse=True)
    return [
        f"| what | {len(alone)} scripts, s | talkgen, s | times faster | memory, MB (largest script) | "
        "memory, MB (talkgen) |",
        "|---|---:|---:|---:|---:|---:|",
        line(f"all {columns} columns", together, found["together"]["memory"]),
        line("the same again, from the cache on disk", cached["again"], cached["memory"]),
        line(f"one more column (`{last}`), the others cached", cached["one more"], cached["memory"]),
        "",
        "| script | s |",
        "|---|---:|",
        *(f"| `{name}` | {alone[name]:.1f} |" for name in slowest),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("videos", type=Path, help="folder of talking faces")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--size", type=int, help="pixels of the shorter side; as the videos are")
    parser.add_argument("--baseline-clips", type=int, help="measure scripts and cache on so many; all")
    parser.add_argument("--columns", nargs="*", default=[], help="of metrics=papers; all")
    parser.add_argument("--sync-expert", help="run of experiment=evaluation_sync_expert")
    parser.add_argument("--landmarks", default="auto", help="detector; published scripts have dlib")
    parser.add_argument("--processes", type=int, default=1, help="parts side by side, on so many idle cores")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    nodes = presets(chosen.sync_expert, chosen.columns)
    if chosen.part:
        baseline = chosen.baseline_clips
        print(json.dumps(measure(chosen.part, chosen.videos, nodes, chosen.landmarks, baseline)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_clips(chosen.videos, chosen.clips, chosen.frames, work, chosen.size)
        frames = sum(Bench(work).limits)
        fewer = sum(Bench(work, chosen.baseline_clips).limits)

        def run(part: str) -> dict[str, float]:
            command = [sys.executable, __file__, folder, "--part", part, "--columns", *nodes]
            command += ["--landmarks", chosen.landmarks]
            command += ["--sync-expert", chosen.sync_expert] if chosen.sync_expert else []
            command += ["--baseline-clips", str(chosen.baseline_clips)] if chosen.baseline_clips else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            print(part, result, file=sys.stderr, flush=True)
            return result

        parts = ["together", "cached", *scripts(nodes)]
        with ThreadPoolExecutor(chosen.processes) as pool:
            found = dict(zip(parts, pool.map(run, parts), strict=True))
    gpu = expert_device().type == "cuda"
    clock = (
        f"seconds by the clock, networks on {torch.cuda.get_device_name()}" if gpu else "processor seconds"
    )
    head = [
        f"{chosen.clips} clips, {frames} frames, one of the truth and one generated; {clock}; "
        f"{platform.machine()}, {torch.get_num_threads()} thread(s) each, {chosen.processes} process(es) "
        "side by side."
        + (
            f" The scripts and the cache were measured on {fewer} of the frames and multiplied by "
            f"{frames / fewer:.1f}, but for scipy's matrix roots."
            if fewer < frames
            else ""
        ),
        "",
    ]
    last = LAST if LAST in nodes else list(nodes)[-1]
    text = "\n".join([*head, *table(found, len(nodes), last), ""])
    print(text)
    if chosen.write:
        keep("evaluation", "Evaluation", text, device="cuda" if gpu else "cpu")


if __name__ == "__main__":
    main()
