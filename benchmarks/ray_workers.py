"""Prepare and evaluate on Ray with two workers, one of which is killed in the middle: is anything lost?

    python benchmarks/ray_workers.py --write    # keeps the table in docs/performance/data_scale.md

The cluster is started on this machine and ended again. The same work in one process says what is right.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
from document import keep

from talkgen import evaluation
from talkgen.data.clip import RawClip
from talkgen.data.clip_preparation import PrepareSettings
from talkgen.data.executors import Executor, RayExecutor, SerialExecutor
from talkgen.data.filters import FilterSettings
from talkgen.data.prepare import prepare
from talkgen.video.writer import VideoWriter

CLIPS, VIDEOS, FRAMES = 24, 6, 30
STORE_MEMORY = 100 * 2**20
METRIC = """
import os, signal
from pathlib import Path
from talkgen.metrics.psnr import PSNR

class MortalPSNR(PSNR):
    def per_clip(self):
        flag = Path({flag!r})
        if os.getpid() != {driver} and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().per_clip()
"""


class OneDeath:
    """Ray, one of whose workers is killed when it has written the clips of an item, but not yet said so."""

    def __init__(self, flag: Path, item: int) -> None:
        self.flag = flag
        self.item = item

    def map(self, function: Callable[[Any], Any], items: Any) -> Iterator[tuple[Any, Any]]:
        flag, item = self.flag, self.item

        def work(job: Any) -> Any:
            if job.number == item and not flag.exists():
                from talkgen.data import prepare as module

                def die(file: Path, content: bytes) -> None:
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

                module.write_atomically = die  # type: ignore[assignment]
            return function(job)

        return RayExecutor().map(work, items)


def write_video(file: Path, level: int) -> None:
    """A bright bar that wanders over grey, with a tone."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sound = 0.3 * np.sin(np.arange(FRAMES * 640) * (0.05 + level / 1000)).astype(np.float32)
    with VideoWriter(file, 25, 160, 160, crf=5, audio=(sound, 16000)) as writer:
        for frame in range(FRAMES):
            picture = np.full((160, 160, 3), level, np.uint8)
            picture[:, 4 * frame : 4 * frame + 20] = 200
            writer.write(picture)


def preparation(folder: Path) -> tuple[list[Any], bool]:
    """Clips in the store of one process, and in that of two workers of which one was killed."""
    source = folder / "raw"
    write_video(source / "a.mp4", 60)
    points = np.tile(np.linspace([40, 40], [110, 110], 68, dtype=np.float32), (FRAMES, 1, 1))
    points[:, 36:42], points[:, 42:48] = (55, 60), (95, 60)
    points[:, [48, 54]] = [[60, 95], [90, 95]]
    np.savez(source / "a.npz", landmarks=points)
    raw = [RawClip(f"clip{n}", "folder", "train", "a.mp4", f"id{n}", truth="a.npz") for n in range(CLIPS)]
    filters = FilterSettings(min_seconds=0.8, min_face_pixels=20, min_sharpness=0, min_speech_ratio=0)
    settings = PrepareSettings(size=48, speech="energy", filters=filters)
    flag, seconds, ids, contents = folder / "died", [], [], []
    executors: list[tuple[str, Executor]] = [
        ("one", SerialExecutor()), ("two", OneDeath(flag, CLIPS // 2))
    ]  # fmt: skip
    for name, executor in executors:
        began = time.perf_counter()
        store = prepare(raw, source, folder / name, settings, executor, progress=False).store
        seconds.append(time.perf_counter() - began)
        ids.append([clip.id for clip in store.clips])
        contents.append({file.name: file.read_bytes() for file in sorted((folder / name).rglob("*.*"))})
    return _row("prepare", flag, ids, contents[0] == contents[1], seconds)


def scoring(folder: Path) -> tuple[list[Any], bool]:
    """Clips in the table of one process, and in that of two workers of which one was killed."""
    for number in range(VIDEOS):
        write_video(folder / f"truth/{number}.mp4", 40 + 10 * number)
        write_video(folder / f"near/{number}.mp4", 44 + 10 * number)
    flag = folder / "died_too"
    (folder / "mortal_metric.py").write_text(METRIC.format(flag=str(flag), driver=os.getpid()))
    (folder / "config/metrics").mkdir(parents=True)
    (folder / "config/metrics/mortal.yaml").write_text("psnr:\n  _target_: mortal_metric.MortalPSNR\n")
    seconds, ids, tables = [], [], []
    for name, how in (("one", ["workers=1"]), ("two", ["workers=2", "executor=ray"])):
        out = folder / f"{name}_table"
        began = time.perf_counter()
        code = evaluation.main(
            [
                f"truth={folder / 'truth'}", f"videos={folder / 'near'}", f"out={out}", "metrics=mortal",
                f"cache={folder}/{name}_cache", f"hydra.searchpath=[file://{folder / 'config'}]", *how,
            ]
        )  # fmt: skip
        assert code == 0
        seconds.append(time.perf_counter() - began)
        tables.append(json.loads((out / "table.json").read_text())["rows"])
        cells = next(iter(tables[-1][-1]["cells"].values()))
        ids.append(list(cells["per_clip"]))
    return _row("evaluate", flag, ids, tables[0] == tables[1], seconds)


def _row(
    name: str, flag: Path, ids: list[list[str]], same: bool, seconds: list[float]
) -> tuple[list[Any], bool]:
    lost = len(set(ids[0]) - set(ids[1]))
    twice = sum(count - 1 for count in Counter(ids[1]).values())
    killed = int(flag.exists())
    cells = [
        name, len(ids[0]), killed, lost, twice, "the same" if same else "**others**",
        *(f"{value:.1f}" for value in seconds),
    ]  # fmt: skip
    return cells, same and killed == 1 and lost == twice == 0


def main() -> str | int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ray-workers-"))
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)  # of Ray's workers
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
        object_store_memory=STORE_MEMORY,
    )  # fmt: skip
    try:
        rows = [preparation(folder), scoring(folder)]
    finally:
        ray.shutdown()
        shutil.rmtree(folder)
    lines = [
        "Two workers on Ray, one of which is killed with signal 9 in the middle of a clip:",
        "",
        "| | clips | killed | lost | twice | store, table | s in one process | s on Ray |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
        *(f"| {' | '.join(map(str, cells))} |" for cells, _ in rows),
        "",
        "What takes longer on Ray is that its workers import PyTorch.",
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        keep("data_scale", "Data at scale", text, part="ray")
    good = all(good for _, good in rows)
    return 0 if good else "something was lost, came twice or came out otherwise than in one process"


if __name__ == "__main__":
    sys.exit(main())
