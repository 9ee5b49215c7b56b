"""All columns of metrics=papers at once against one script a metric, and a second run from the cache.

    python benchmarks/evaluation.py clips/            # 40 clips of 5 s at most; prints the table
    python benchmarks/evaluation.py clips/ --write    # and keeps it in docs/performance/evaluation.md

The generated videos are the true ones at crf 32. The baseline is what published evaluation code does, with
talkgen's own arithmetic, so that only the organisation differs: every metric by itself reads both folders
again, detects faces again where it needs them, runs its network again, and a Fréchet distance takes scipy's
matrix root of 2048 × 2048 covariances. Times are processor seconds. Columns whose weights are missing
are left out of both.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from talkgen.audio.waveform import load_waveform
from talkgen.configuration import build, config_folder
from talkgen.data.corpora.layout import find_videos
from talkgen.errors import TalkgenError
from talkgen.metrics import cpbd, fid, fvd, lpips, niqe, pose_error, shared_features, warping_error
from talkgen.metrics.contenders import GroundTruth, VideoRow
from talkgen.metrics.feature_cache import FeatureCache, remembering
from talkgen.metrics.identity_source import Gallery, open_identity_source, warps_of
from talkgen.metrics.landmark_source import LandmarkSource, open_landmark_source
from talkgen.metrics.required_weights import NeedsWeights
from talkgen.metrics.scoring import score
from talkgen.metrics.shared_features import SharedFeatures
from talkgen.metrics.video_clips import VideoClips, VideoFile
from talkgen.video.reader import read_frames
from talkgen.video.writer import VideoWriter

REPORT = Path(__file__).resolve().parents[1] / "docs" / "performance" / "evaluation.md"


def presets() -> dict[str, Any]:
    """Names of the columns that can be measured here → what makes them."""
    cfg = OmegaConf.create(
        {
            "recogniser": "edgeface_s",
            "sync_expert": None,
            "metrics": OmegaConf.load(config_folder() / "metrics" / "papers.yaml"),
        }
    )
    nodes = {name: cfg.metrics[name] for name in cfg.metrics}
    made = {name: build(node) for name, node in nodes.items()}
    return {
        name: node
        for name, node in nodes.items()
        if not isinstance(made[name], NeedsWeights) or made[name].lacking is None
    }


def scipy_frechet(x: Tensor, y: Tensor) -> Tensor:
    """As pytorch-fid computes it."""
    from scipy.linalg import sqrtm

    a, b = x.double().numpy(), y.double().numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    offset = np.eye(len(first)) * 1e-6
    root = sqrtm((first + offset) @ (second + offset))
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return torch.tensor(shift + np.trace(first) + np.trace(second) - 2 * np.trace(np.real(root)))


def forget() -> None:
    """Empty what is kept in memory, as a new process would find it; networks stay open in both ways."""
    for module in (cpbd, fid, fvd, lpips, niqe, pose_error, warping_error, shared_features):
        for value in vars(module).values():
            if isinstance(value, SharedFeatures):
                value._kept.clear()
    for opened in (
        lambda: fid.inception_features(fid.available_name(), "pytorch-fid"),
        lambda: fid.inception_features(fid.available_name(), "clean-fid"),
        fvd.i3d_features,
        pose_error.tddfa_coefficients,
        lambda: lpips._distances("alex"),
        lambda: niqe._frames_niqe("y"),
    ):
        try:
            opened()._kept.clear()
        except TalkgenError:
            continue


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


def timed(call: Callable[[], Any]) -> float:
    """Processor seconds."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


class Bench:
    """The clips, and one pass of some metrics over them."""

    def __init__(self, folder: Path, clips: int, frames: int, work: Path) -> None:
        truth = [folder / name for name in find_videos(folder)][:clips]
        truth = [truth[n % len(truth)] for n in range(clips)]
        self.files, made = [], []
        for number, file in enumerate(truth):
            pictures = list(islice(read_frames(file, fps=25), frames))
            sound = load_waveform(file)[: len(pictures) * 640]
            for kind, crf in (("true", 12), ("made", 32)):
                place = work / f"{kind}{number}.mp4"
                size = pictures[0].shape[1], pictures[0].shape[0]
                with VideoWriter(place, 25, *size, crf, audio=(sound, 16000)) as writer:
                    for picture in pictures:
                        writer.write(picture)
            self.files.append(VideoFile(f"{number}", work / f"true{number}.mp4", file.stem))
            made.append(work / f"made{number}.mp4")
        self.limits = [file.frames(25).count for file in self.files]
        self.made = made
        self.work = work

    def run(self, nodes: dict[str, Any]) -> None:
        """Score the truth and the generated videos, with what these metrics need."""
        clips = VideoClips(self.files, self.limits)
        metrics = [[build(node) for node in nodes.values()] for _ in range(2)]
        needs = {need for metric in metrics[0] for need in metric.needs}
        landmarks = open_landmark_source() if needs & {"landmarks", "mouth", "identity", "wanted"} else None
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
        score([GroundTruth(), row], metrics, clips, shared, self.work, identity, gallery)
        for metric in (one for each in metrics for one in each):
            metric.compute()


def measure(bench: Bench, columns: list[str]) -> list[str]:
    """Lines of the table."""
    nodes = {name: node for name, node in presets().items() if not columns or name in columns}
    bench.run(nodes)  # opens networks and compiles
    lines = ["| what | one script a metric, s | talkgen, s | times faster |", "|---|---:|---:|---:|"]
    forget()
    together = timed(lambda: bench.run(nodes))
    alone = {}
    with scipy_root():
        for name, node in nodes.items():
            forget()
            alone[name] = timed(partial(bench.run, {name: node}))
    total = sum(alone.values())
    lines.append(f"| all {len(nodes)} columns | {total:.1f} | {together:.1f} | {total / together:.1f} |")
    slowest = sorted(alone, key=lambda name: alone[name], reverse=True)[:6]
    lines += [f"| – of it `{name}` | {alone[name]:.1f} | | |" for name in slowest]
    cache = FeatureCache(bench.work / "cache", 10**10)
    forget()
    with remembering(cache):
        bench.run(nodes)
    forget()
    with remembering(cache):
        again = timed(lambda: bench.run(nodes))
    lines.append(
        f"| the same again, from the cache on disk | {total:.1f} | {again:.1f} | {total / again:.1f} |"
    )
    last = "lpips_mouth" if "lpips_mouth" in nodes else list(nodes)[-1]
    fewer = {name: node for name, node in nodes.items() if name != last}
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        some = FeatureCache(folder, 10**10)
        forget()
        with remembering(some):
            bench.run(fewer)
        forget()
        with remembering(some):
            more = timed(lambda: bench.run(nodes))
    lines.append(
        f"| one more column (`{last}`), the others cached | {total:.1f} | {more:.1f} | {total / more:.1f} |"
    )
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("videos", type=Path, help="folder of talking faces")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--frames", type=int, default=125)
    parser.add_argument("--columns", nargs="*", default=[], help="of metrics=papers; all")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {REPORT.name}")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(chosen.videos, chosen.clips, chosen.frames, Path(folder))
        lines = measure(bench, chosen.columns)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    frames = sum(bench.limits)
    head = [
        "# Evaluation",
        "",
        f"Made by `python benchmarks/evaluation.py CLIPS --clips {chosen.clips} --frames {chosen.frames} "
        "--write`, which describes the baseline.",
        f"{chosen.clips} clips, {frames} frames, one of the truth and one generated; processor seconds on "
        f"{platform.machine()}, {torch.get_num_threads()} thread(s); largest memory {peak:.0f} MB.",
        "",
    ]
    text = "\n".join([*head, *lines, ""])
    print(text)
    if chosen.write:
        REPORT.write_text(text)


if __name__ == "__main__":
    main()
