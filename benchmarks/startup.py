"""From the command to the first training step: processor time of each part, and of what answers at once.

    python benchmarks/startup.py [--stage swaptalk_vqgan] [--size demo] [--write]

Each row is a process of its own, three times, the least time; processor time, so that what else runs counts
little. The parts of a training are those of one process: importing, composing the config, building networks
(with random weights in place of what would be loaded, ``talkgen.rehearsal``), the first step and the second.
The baseline is ``import torch``, under which no training can be.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import torch
from document import keep

COMMANDS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import lightning.pytorch": ["-c", "import lightning.pytorch"],
    "import talkgen.cli": ["-c", "import talkgen.cli"],
    "talkgen --help": ["-m", "talkgen.cli", "--help"],
    "talkgen train --help": ["-m", "talkgen.cli", "train", "--help"],
    "talkgen doctor --help": ["-m", "talkgen.cli", "doctor", "--help"],
}
TRAINING = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
stage, size = sys.argv[1:]
marks = [("python", time.process_time())]
def mark(name): marks.append((name, time.process_time()))
import torch
torch.set_num_threads(1)
mark("import torch")
from lightning.pytorch import Callback, Trainer
mark("import lightning")
from talkgen import training
from talkgen.rehearsal import RehearsalData, batch_shape, samples, stage_config, stage_system
mark("import talkgen")
cfg = stage_config(stage, [f"size={size}"])
mark("compose the config")
system = stage_system(cfg, [f"size={size}"])
mark("build the networks")
data = RehearsalData([samples(batch_shape(cfg), range(int(cfg.data.batch_size)))], 2)
class Mark(Callback):
    def on_train_start(self, *args): mark("begin")
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        mark(("first step", "second step")[batch_idx])
trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
                  enable_progress_bar=False, enable_model_summary=False, callbacks=[Mark()])
trainer.fit(system, datamodule=data)
spent = {name: after - before for (name, after), before in zip(marks, [0.0, *[m for _, m in marks]])}
print(json.dumps(spent))
"""


def processor_seconds(arguments: list[str], repeats: int = 3) -> float:
    """Least processor time of a command of Python's."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def training_parts(stage: str, size: str, repeats: int = 3) -> dict[str, float]:
    """Least processor time of each part of a training's beginning."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", TRAINING, stage, size], check=True, capture_output=True, text=True
        )
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {name: min(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", default="swaptalk_vqgan", help="an experiment that trains a network")
    parser.add_argument("--size", default="demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/performance")
    given = parser.parse_args()
    torch.set_num_threads(1)
    times = {name: processor_seconds(command, given.repeats) for name, command in COMMANDS.items()}
    base = times["import torch"]
    lines = ["| command | s | times `import torch` |", "|---|---:|---:|"]
    lines += [f"| `{name}` | {spent:.2f} | {spent / base:.2f} |" for name, spent in times.items()]
    parts = training_parts(given.stage, given.size, given.repeats)
    total = sum(parts.values())
    first = total - parts["second step"]
    lines += ["", f"| to the first step of {given.stage}, size={given.size} | s | share |", "|---|---:|---:|"]
    lines += [f"| {name} | {s:.2f} | {s / first:.0%} |" for name, s in parts.items() if name != "second step"]
    lines += [f"| **together** | {first:.2f} | |", f"| a step after it | {parts['second step']:.2f} | |"]
    print("\n".join(lines))
    if given.write:
        text = f"Processor time, least of {given.repeats}.\n\n" + "\n".join(lines)
        keep("startup", "Start-up", text)


if __name__ == "__main__":
    main()
