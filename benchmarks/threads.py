"""Two threads of a training step beside other work: what a waiting thread does with its core.

    python benchmarks/threads.py            # prints the table
    python benchmarks/threads.py --write    # also keeps it in docs/performance/threads.md

A thread of OpenMP that waits for the others spins before it sleeps. On a quiet machine that saves the time of
waking it; beside other programs it burns the time that the threads it waits for need. Each row is a training
step of the demo's VQGAN in fresh processes on two cores, alone and beside two busy programs. The baseline is
one thread. ``--realtime`` (needs root) keeps other programs off the cores for the second that "alone" takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from document import keep

from talkgen.cli import SPIN_COUNT

CORES = 2
SECONDS = {"alone": 0.85, "beside": 4.0}  # real-time processes get 0.95 s of each
SETTINGS: dict[str, dict[str, str]] = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads, as OpenMP has it": {},
    **{
        f"2 threads, GOMP_SPINCOUNT={n}": {"GOMP_SPINCOUNT": str(n)}
        for n in (0, 1000, int(SPIN_COUNT), 10_000, 100_000)
    },
}
BUSY = [sys.executable, "-c", "while True: pass"]


def child(seconds: float, realtime: bool) -> None:
    """Train for so long; prints the median seconds of a step."""
    import torch

    from talkgen.models.vqgan.vqgan import build_vqgan

    net = build_vqgan(16, (1, 1, 2, 4), 1, latent_channels=64, codes=512, code_dim=64, kmeans_vectors=0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    pictures = torch.rand(8, 3, 96, 96) * 2 - 1

    def step() -> None:
        output = net(pictures)
        loss = (output.reconstruction - pictures).abs().mean() + output.codebook_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    print("ready", flush=True)
    sys.stdin.readline()
    if realtime:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_FIFO, os.sched_param(1))
    times: list[float] = []
    while sum(times) < seconds:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    print(statistics.median(times), flush=True)


def measure(variables: dict[str, str], beside: bool, realtime: bool) -> float:
    """Median seconds of a step with ``variables`` in the environment."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(CORES), **variables}
    seconds = SECONDS["beside" if beside else "alone"]
    command = [sys.executable, __file__, "--child", str(seconds), *["--realtime"] * (realtime and not beside)]
    training = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert training.stdout is not None
    training.stdout.readline()
    others = [subprocess.Popen(BUSY) for _ in range(CORES * beside)]
    try:
        return float(training.communicate("go\n")[0])
    finally:
        for process in others:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="keep the table in docs/performance")
    parser.add_argument("--repeats", type=int, default=3, help="the least counts")
    parser.add_argument("--realtime", action="store_true", help="see above")
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.child, chosen.realtime)
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    times = {name: [float("inf")] * 2 for name in SETTINGS}
    for _ in range(chosen.repeats):  # in turn, so that all meet the same weather
        for name, variables in SETTINGS.items():
            for beside in (False, True):
                seconds = measure(variables, beside, chosen.realtime)
                times[name][beside] = min(times[name][beside], seconds)
    unit = times["1 thread"]
    lines = [
        "| | ms a step, alone | times one thread | ms a step, beside two busy programs | times one thread |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, (alone, beside) in times.items():
        lines.append(
            f"| {name} | {1000 * alone:.0f} | {alone / unit[0]:.2f} "
            f"| {1000 * beside:.0f} | {beside / unit[1]:.2f} |"
        )
    print("\n".join(lines))
    if chosen.write:
        about = f"Least of {chosen.repeats} medians, on {CORES} cores."
        keep("threads", "Threads", f"{about}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
