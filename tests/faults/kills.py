"""Kill -9 at random moments of every long command, then the same command again: as if nothing had been."""

from __future__ import annotations

import csv
import hashlib
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nursery import Ended, Nursery
from square_faces import film, speech
from tally import Tally
from tiny import write_tiny_store, write_tiny_swaptalk

from talkgen import weights

State = dict[str, str]

LIMIT_SECONDS = 240.0  # of one command here; the longest takes ten
CLIPS = 4  # of a batch that is generated
MISSES = 20  # trials for one in which the command had not ended before its moment

# Every system, in the order in which stages build on each other: its method, and settings that have all of it
# happen within a few steps.
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "swaptalk_vqgan": (
        "swaptalk",
        (
            "sample_every=4",
            "size.swaptalk_vqgan.adversarial_start=7",
            "size.swaptalk_vqgan.kmeans_vectors=64",
        ),
    ),
    "swaptalk_sync_expert": ("swaptalk", ()),
    "swaptalk_identity_head": ("swaptalk", ()),
    "swaptalk_face_swap": ("swaptalk", ()),
    "swaptalk_lip_sync": ("swaptalk", ()),
    "swaptalk_light_decoder": ("swaptalk", ()),
    "sync_expert": ("diff2lip", ()),
    "diff2lip_diffusion": ("diff2lip", ("size.diff2lip_diffusion.adversarial_start=7",)),
    "diff2lip_distill": ("diff2lip", ()),
    "disenttalk_disentangle": ("disenttalk", ()),
    "disenttalk_codec": ("disenttalk", ()),
    "disenttalk_sync_expert": ("disenttalk", ()),
    "disenttalk_motion": ("disenttalk", ()),
    "disenttalk_renderer": ("disenttalk", ()),
    "evaluation_sync_expert": ("evaluation", ()),
}
NO_RECOGNISERS = {  # where their weights are not there
    "swaptalk_face_swap": (
        "system.identity=null",
        "system.identity_head=null",
        "system.judge=null",
        "data.identify=null",
    )
}
RHYTHM = ("steps=14", "validate_every=6", "checkpoint_every=4", "trainer.log_every_n_steps=1")


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    Attributes:
        name: of it in the table.
        arguments: of `talkgen`; paths in it are relative to its working folder, or of what it only reads.
        state: of a working folder, all that must be the same.
        function: of the child.
        begin: fills a working folder before the first start.
    """

    name: str
    arguments: tuple[str, ...]
    state: Callable[[Path], State]
    function: str = "commands:talkgen"
    begin: Callable[[Path], object] = lambda folder: None


# What must be the same -------------------------------------------------------------------------------------


def files_of(folder: Path) -> Iterator[Path]:
    """All files of a folder but locks, hidden ones included: what a killed process leaves behind counts."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock")


def bytes_of(folder: Path) -> State:
    """Digest of every file."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files_of(folder)
    }


def digest(content: Any) -> str:
    """Of nested containers; tensors and arrays to the bit."""
    sha256 = hashlib.sha256()

    def add(node: Any) -> None:
        if isinstance(node, torch.Tensor):
            sha256.update(f"{node.dtype} {tuple(node.shape)}".encode())
            sha256.update(node.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(node, dict):
            for key in sorted(node, key=str):
                sha256.update(str(key).encode())
                add(node[key])
        elif isinstance(node, list | tuple):
            sha256.update(f"{len(node)}".encode())
            for item in node:
                add(item)
        else:
            sha256.update(repr(node).encode())

    add(content)
    return sha256.hexdigest()


def training_of(folder: Path) -> State:
    """Every file of the run; checkpoints by their tensors, logged numbers but for times."""
    state = bytes_of(folder)
    for file in files_of(folder):
        name = str(file.relative_to(folder))
        if file.suffix == ".ckpt":
            content = torch.load(file, weights_only=True)
            state |= {f"{name}: {key}": digest(value) for key, value in content.items()}
            del state[name]
        elif file.name == "metrics.csv":
            with file.open() as stream:
                rows = [
                    {k: v for k, v in row.items() if v and not k.startswith("time/")}
                    for row in csv.DictReader(stream)
                ]
            del state[name]
            state |= {f"{name}: row {number}": str(row) for number, row in enumerate(rows)}
        elif file.name == "run.json":
            state[name] = "there"  # says when the run was started, and how often
    return state


# Commands ---------------------------------------------------------------------------------------------------


def stages() -> dict[str, tuple[str, tuple[str, ...]]]:
    """``STAGES`` that can be trained with the weights that are here."""
    if weights.available("arcface_mbf") and weights.available("edgeface_s"):
        return STAGES
    there = {name: stage for name, stage in STAGES.items() if name != "swaptalk_identity_head"}
    return {name: (stage[0], (*stage[1], *NO_RECOGNISERS.get(name, ()))) for name, stage in there.items()}


def training(base: Path, stage: str, *rhythm: str) -> list[str]:
    """The command that trains a stage in the working folder."""
    method, extra = stages()[stage]
    making = stage == "disenttalk_disentangle"
    return [
        "train", f"experiment={stage}", "size=tiny", f"data.root={base / 'store'}", "data.workers=0",
        "logger=csv", f"name={method}/{stage}", "paths.runs=runs", *(() if making else (*extra, *rhythm)),
    ]  # fmt: skip


def write_base(base: Path) -> None:
    """What the commands read: a store, films, and a method that was never trained."""
    base.mkdir(parents=True, exist_ok=True)
    store = write_tiny_store(base / "store")
    write_tiny_swaptalk(base / "methods" / "swaptalk-tiny", store)
    films = base / "films"
    for number in range(CLIPS):
        film(films / f"{number}.mp4", 30 + number, sound=speech(1.2 + 0.04 * number, number))
    lines = [f"{number}.mp4,made/{number}.mp4" for number in range(CLIPS)]
    (films / "jobs.csv").write_text("\n".join(["face,out", *lines]) + "\n")


def train_base(base: Path, nursery: Nursery) -> None:
    """Every stage after two steps of training, for those that build on it."""
    rhythm = ("steps=2", "validate_every=2", "checkpoint_every=2", "trainer.log_every_n_steps=1")
    for stage in stages():
        ended = nursery.start("commands:talkgen", [training(base, stage, *rhythm)], base).end(LIMIT_SECONDS)
        if ended.code:
            raise RuntimeError(f"{stage} cannot be trained at all: {ended.said[-800:]}")


def prepare_scenarios(base: Path) -> list[Scenario]:
    """The demo corpus is rendered and prepared in one process; a corpus of films by two worker processes."""
    settings = {
        "identities": 3, "held_out": 1, "clips_per_identity": 1, "held_out_clips": 1, "swaps_per_identity": 1,
        "seconds": 1.2, "size_pixels": 64,
    }  # fmt: skip
    demo = (
        "prepare", "corpus=demo", "out=demo", "source=demo_raw", "settings.size=32", "executor=serial",
        "progress=false", "+corpus.generate.workers=1", "shard_megabytes=0.05",
        *(f"corpus.generate.settings.{key}={value}" for key, value in settings.items()),
    )  # fmt: skip
    return [Scenario("prepare corpus=demo", demo, bytes_of)]


def train_scenarios(base: Path) -> list[Scenario]:
    """Every system; the stages that come before it are found beside it."""

    def beside(stage: str, method: str) -> Callable[[Path], object]:
        def link(folder: Path) -> None:
            (folder / "runs" / method).mkdir(parents=True)
            for other in (base / "runs" / method).glob("*"):
                if other.name != stage:
                    (folder / "runs" / method / other.name).symlink_to(other)

        return link

    def state(stage: str, method: str) -> Callable[[Path], State]:
        return lambda folder: training_of(folder / "runs" / method / stage)

    return [
        Scenario(
            f"train {stage}",
            tuple(training(base, stage, *RHYTHM)),
            state(stage, method),
            begin=beside(stage, method),
        )
        for stage, (method, _) in stages().items()
    ]


def evaluate_scenarios(base: Path) -> list[Scenario]:
    """A method on the held-out clips, with a cache of what networks made of frames."""
    arguments = (
        "evaluate", f"run={base / 'methods' / 'swaptalk-tiny'}", "out=scores", "cache=cache", "device=cpu",
        "frames=24", "clips=2", "split=test", "metrics=reconstruction",
    )  # fmt: skip
    return [Scenario("evaluate", arguments, lambda folder: bytes_of(folder / "scores"))]


def generate_scenarios(base: Path) -> list[Scenario]:
    """A batch of videos."""
    arguments = (
        "generate", "batch=jobs.csv", f"run={base / 'methods' / 'swaptalk-tiny'}", "device=cpu",
    )  # fmt: skip

    def begin(folder: Path) -> None:
        for file in (base / "films").iterdir():
            (folder / file.name).symlink_to(file)

    return [
        Scenario(
            f"generate batch of {CLIPS}", arguments, lambda folder: bytes_of(folder),
            "commands:talkgen_with_squares", begin,
        )
    ]  # fmt: skip


# The trials -------------------------------------------------------------------------------------------------


def run(nursery: Nursery, scenario: Scenario, folder: Path) -> Ended:
    """Once, undisturbed."""
    child = nursery.start(scenario.function, [list(scenario.arguments)], folder)
    return child.end(LIMIT_SECONDS)


def kill_and_resume(
    nursery: Nursery, scenario: Scenario, kills: int, room: Path, seed: int = 0, at_a_time: int = 2
) -> Tally:
    """Kill a command at random moments, then let it go to its end, and compare with one that nobody killed.

    Args:
        nursery: where processes come from.
        scenario: the command.
        kills: how many; a command that ended before its kill came is started anew.
        room: folder for the working folders.
        seed: of the moments, which are shares of the time that the command takes undisturbed.
        at_a_time: a command is killed up to so many times before it is let go on.
    """
    tally = Tally(scenario.name)
    moments = random.Random(f"{scenario.name} {seed}")
    whole = room / "whole"
    whole.mkdir(parents=True)
    scenario.begin(whole)
    ended = run(nursery, scenario, whole)
    if ended.code:
        tally.fail(f"does not even run undisturbed: {ended.said[-500:]}")
        return tally
    wanted, seconds = scenario.state(whole), ended.seconds
    trial = 0
    while tally.tried < kills:
        trial += 1
        if trial > MISSES * kills:
            tally.fail("ends before it is killed")
            break
        folder = room / f"killed{trial}"
        folder.mkdir()
        scenario.begin(folder)
        done: list[float] = []
        for _ in range(min(moments.randint(1, at_a_time), kills - tally.tried)):
            share = moments.uniform(0.02, 0.98)
            child = nursery.start(scenario.function, [list(scenario.arguments)], folder)
            early = child.wait(share * seconds)
            if early is not None:
                seconds = min(seconds, early.seconds)  # the machine is less busy by now
            else:
                child.kill()
                killed = child.wait()
                if killed is not None and killed.code == -signal.SIGKILL:
                    done.append(share)
            time.sleep(0.02)
        if not done:
            shutil.rmtree(folder)
            continue
        last = run(nursery, scenario, folder)
        where = ", ".join(f"{100 * share:.0f} %" for share in done)
        if last.code:
            tally.fail(f"killed at {where}: it does not go on: {last.said[-500:]}")
            tally.tried += len(done) - 1
        elif changed := differing(wanted, scenario.state(folder)):
            tally.fail(f"killed at {where}: other results: {', '.join(changed[:6])}")
            tally.tried += len(done) - 1
        else:
            tally.survive(len(done))
            shutil.rmtree(folder)
    return tally


def differing(wanted: State, found: State) -> list[str]:
    """What is missing, new or other."""
    words = []
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            words.append(f"{name} is missing")
        elif name not in wanted:
            words.append(f"{name} is left over")
        elif wanted[name] != found[name]:
            words.append(f"{name} differs")
    return words
