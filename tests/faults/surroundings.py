"""Full disks, folders that cannot be written to, turned bits, vanished data, jumping clocks, two at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from kills import (
    LIMIT_SECONDS,
    MISSES,
    RHYTHM,
    Scenario,
    State,
    differing,
    evaluate_scenarios,
    generate_scenarios,
    prepare_scenarios,
    run,
    train_scenarios,
    training,
)
from nursery import Ended, Nursery
from tally import Tally

TRAINED = "sync_expert"  # the system that stands for all where the fault is not the system's


def commands(base: Path) -> list[Scenario]:
    """One of each long command."""
    trained = [scenario for scenario in train_scenarios(base) if scenario.name == f"train {TRAINED}"]
    return [*prepare_scenarios(base), *trained, *evaluate_scenarios(base), *generate_scenarios(base)]


def is_clear(ended: Ended) -> bool:
    """Whether a command ended with a sentence for its user, and not with a trace of its insides."""
    return ended.code in (1, 130, 143) and "Traceback" not in ended.said and len(ended.said.strip()) > 0


def _tail(ended: Ended) -> str:
    return f"exit code {ended.code}: {ended.said[-400:]}"


# Signals that ask to stop -----------------------------------------------------------------------------------


def stop_and_resume(nursery: Nursery, base: Path, room: Path, times: int, seed: int = 0) -> list[Tally]:
    """SIGTERM and Ctrl-C at random moments: a sentence says how to go on, and the same command does."""
    tallies = []
    for place, scenario in enumerate(commands(base)):
        tally = Tally(f"SIGTERM and Ctrl-C: {scenario.name}")
        moments = random.Random(f"{scenario.name} {seed}")
        whole = room / f"whole{place}"
        wanted, seconds = _undisturbed(nursery, scenario, whole)
        trial = 0
        while tally.tried < times:
            trial += 1
            if trial > MISSES * times:
                tally.fail("ends before it is asked to")
                break
            folder = _begun(scenario, room / f"stopped{place}-{trial}")
            number = (signal.SIGTERM, signal.SIGINT)[tally.tried % 2]
            child = nursery.start(scenario.function, [list(scenario.arguments)], folder)
            # the first moments belong to Hydra, before the command has begun
            if child.wait(moments.uniform(0.1, 0.95) * seconds) is None:
                child.kill(number)
            ended = child.end(LIMIT_SECONDS)
            if ended.code == 0:
                seconds = min(seconds, ended.seconds)  # it was done before: the machine is less busy by now
                continue
            name = signal.Signals(number).name
            if not is_clear(ended) or "same command goes on" not in ended.said.lower():
                tally.fail(f"{name}: {_tail(ended)}")
                continue
            _compare(tally, name, run(nursery, scenario, folder), scenario.state, folder, wanted)
        tallies.append(tally)
    return tallies


def _begun(scenario: Scenario, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    scenario.begin(folder)
    return folder


def _undisturbed(nursery: Nursery, scenario: Scenario, folder: Path) -> tuple[State, float]:
    ended = run(nursery, scenario, _begun(scenario, folder))
    if ended.code:
        raise RuntimeError(f"{scenario.name} does not run: {_tail(ended)}")
    return scenario.state(folder), ended.seconds


def _compare(
    tally: Tally, what: str, ended: Ended, state: Callable[[Path], State], folder: Path, wanted: State
) -> None:
    if ended.code:
        tally.fail(f"{what}: it does not go on afterwards: {_tail(ended)}")
    elif changed := differing(wanted, state(folder)):
        tally.fail(f"{what}: other results afterwards: {', '.join(changed[:5])}")
    else:
        tally.survive()


# Disks ------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A disk of its own at ``folder``; what comes back changes its options, such as ``size=1m`` or ``ro``.

    Raises:
        PermissionError: only the administrator may mount one, and not in every container.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def mount(*arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(done.stderr.strip())

    try:
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    except FileNotFoundError as error:
        raise PermissionError("there is no mount command") from error
    try:
        yield lambda options: mount("-o", f"remount,{options}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def may_mount(room: Path) -> str | None:
    """Why no disk can be mounted here; None where it can."""
    try:
        with small_disk(room / "mounted", "64k"):
            return None
    except PermissionError as error:
        return str(error)


def full_disk(nursery: Nursery, base: Path, room: Path, sizes: tuple[str, ...]) -> list[Tally]:
    """Each command on disks that are too small; then the disk grows, and the same command goes on."""
    tallies = []
    for place, scenario in enumerate(commands(base)):
        tally = Tally(f"disk full: {scenario.name}", note=f"disks of {', '.join(sizes)}, then of 200m")
        wanted, _ = _undisturbed(nursery, scenario, room / f"enough{place}")
        for size in sizes:
            folder = room / f"full{place}-{size}"
            with small_disk(folder, size) as change:
                _begun(scenario, folder)
                log = folder.with_suffix(".log")
                child = nursery.start(scenario.function, [list(scenario.arguments)], folder, log)
                _refused_then_right(nursery, tally, scenario, child.end(LIMIT_SECONDS), folder, wanted,
                                    lambda: change("size=200m"), size)  # fmt: skip
        tallies.append(tally)
    return tallies


def _refused_then_right(
    nursery: Nursery,
    tally: Tally,
    scenario: Scenario,
    ended: Ended,
    folder: Path,
    wanted: State,
    cure: Callable[[], None],
    what: str,
) -> None:
    if ended.code == 0:
        _compare(tally, what, ended, scenario.state, folder, wanted)
        return
    if not is_clear(ended):
        tally.fail(f"{what}: no clear message: {_tail(ended)}")
        return
    cure()
    last = run(nursery, scenario, folder)
    changed = differing(wanted, scenario.state(folder)) if not last.code else [_tail(last)]
    if changed:
        tally.fail(f"{what}: afterwards: {', '.join(changed[:5])}")
    else:
        tally.refuse()


def read_only(nursery: Nursery, base: Path, room: Path) -> list[Tally]:
    """Each command in a folder that cannot be written to, then in the same one when it can."""
    tally = Tally("read-only folder", note="prepare, train, evaluate, generate")
    for place, scenario in enumerate(commands(base)):
        wanted, _ = _undisturbed(nursery, scenario, room / f"writable{place}")
        folder = room / f"readonly{place}"
        with small_disk(folder, "200m") as change:
            _begun(scenario, folder)
            change("ro")
            log = folder.with_suffix(".log")
            ended = nursery.start(scenario.function, [list(scenario.arguments)], folder, log).end(
                LIMIT_SECONDS
            )
            _refused_then_right(
                nursery, tally, scenario, ended, folder, wanted, lambda: change("rw"), scenario.name
            )
    return [tally]


# Data -------------------------------------------------------------------------------------------------------


def _turn_bit(file: Path, chance: random.Random) -> int:
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return place


def turned_bits(nursery: Nursery, base: Path, room: Path, times: int) -> list[Tally]:
    """One bit of a shard: `talkgen prepare --check` names it; of a checkpoint: nothing goes on from it."""
    chance = random.Random("turned bits")
    room.mkdir(parents=True, exist_ok=True)
    shards = Tally("a bit turned in a shard: prepare --check")
    for number in range(times):
        store = room / f"store{number}"
        shutil.copytree(base / "store", store)
        place = _turn_bit(store / "shards" / "00000.tar", chance)
        ended = nursery.start("commands:talkgen", [["prepare", "--check", str(store)]], room).end(
            LIMIT_SECONDS
        )
        if ended.code == 1 and "FAULT" in ended.said and "00000.tar" in ended.said:
            shards.refuse()
        else:
            shards.fail(f"byte {place}: {_tail(ended)}")
        shutil.rmtree(store)

    checkpoints = Tally("a bit turned in a checkpoint: training goes on")
    scenario = next(one for one in train_scenarios(base) if one.name == f"train {TRAINED}")
    method = scenario.arguments[[a.startswith("name=") for a in scenario.arguments].index(True)][5:]
    longer = [a if not a.startswith("steps=") else "steps=14" for a in scenario.arguments]
    half = _begun(scenario, room / "half")
    child = nursery.start("commands:talkgen", [longer], half)
    while child.poll() is None and not (half / "runs" / method / "checkpoints" / "last.ckpt").is_file():
        time.sleep(0.01)
    child.kill()
    child.wait()
    wanted, _ = _undisturbed(nursery, scenario, room / "whole")
    for number in range(times):
        folder = room / f"flipped{number}"
        shutil.copytree(half, folder, symlinks=True)
        file = folder / "runs" / method / "checkpoints" / "last.ckpt"
        place = _turn_bit(file, chance)
        ended = run(nursery, scenario, folder)
        if ended.code == 0 and not differing(wanted, scenario.state(folder)):
            checkpoints.survive()
        elif is_clear(ended) and "last.ckpt" in ended.said:
            checkpoints.refuse()
        else:
            checkpoints.fail(f"byte {place} of {file.stat().st_size}: {_tail(ended)}")
        shutil.rmtree(folder)
    return [shards, checkpoints]


def not_finite(nursery: Nursery, base: Path, room: Path) -> list[Tally]:
    """A store with a number that is none: training stops, names the clip, and its checkpoint is sound."""
    from talkgen.data.store import Store, StoreWriter

    tally = Tally("a batch with NaN", note="the clip is named; the last checkpoint is finite")
    whole = Store.open(base / "store")
    store = room / "store"
    with StoreWriter(store) as writer:
        for clip in whole.clips:
            arrays = {
                name: np.array(whole.array(clip, name))
                for name in whole.streams
                if not name.startswith("frames")
            }
            if clip.id == "person2/clip":
                arrays["mel"][:, 30:] = np.nan
            writer.add(clip, whole.frames(clip), arrays)
    for stage in (TRAINED, "evaluation_sync_expert"):
        arguments = [
            f"data.root={store}" if argument.startswith("data.root=") else argument
            for argument in training(base, stage, *RHYTHM, "checkpoint_every=1")
            if argument != "checkpoint_every=4"
        ]
        folder = room / stage
        folder.mkdir(parents=True)
        ended = nursery.start("commands:talkgen", [arguments], folder).end(LIMIT_SECONDS)
        checkpoints = list(folder.rglob("last.ckpt"))
        if not is_clear(ended) or "not finite at step" not in ended.said:
            tally.fail(f"{stage}: {_tail(ended)}")
        elif not any("person2/clip" in file.read_text() for file in folder.rglob("nan.json")):
            tally.fail(f"{stage}: the clip is not named")
        elif any(not _is_finite(file) for file in checkpoints):
            tally.fail(f"{stage}: a checkpoint is spoilt")
        else:
            tally.refuse()
    return [tally]


def _is_finite(file: Path) -> bool:
    import torch

    weights = torch.load(file, weights_only=True)["state_dict"].values()
    return all(bool(one.isfinite().all()) for one in weights if one.is_floating_point())


def vanished(nursery: Nursery, base: Path, room: Path) -> list[Tally]:
    """The store is moved away, emptied or cut while it is trained on; then it comes back."""
    tally = Tally("a dataset that vanishes in training", note="removed, emptied, a shard cut to nothing")
    scenario = next(one for one in train_scenarios(base) if one.name == f"train {TRAINED}")

    def moved(store: Path) -> None:
        store.rename(store.with_name("away"))

    def emptied(store: Path) -> None:
        shutil.rmtree(store)

    def cut(store: Path) -> None:
        os.truncate(store / "shards" / "00000.tar", 0)

    wanted: State | None = None
    for how in (moved, emptied, cut):
        folder = _begun(scenario, room / how.__name__)
        store = folder / "store"
        shutil.copytree(base / "store", store)
        arguments = [f"data.root={store}" if a.startswith("data.root=") else a for a in scenario.arguments]
        child = nursery.start("commands:talkgen", [arguments], folder)
        until = time.monotonic() + LIMIT_SECONDS
        while (
            not list(folder.glob("runs/*/*/metrics.csv"))
            and child.poll() is None
            and time.monotonic() < until
        ):
            time.sleep(0.005)
        how(store)
        ended = child.end(LIMIT_SECONDS)
        if ended.code != 0 and not is_clear(ended):
            tally.fail(f"{how.__name__}: {_tail(ended)}")
            continue
        refused = ended.code != 0
        if refused:
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(base / "store", store)
            ended = nursery.start("commands:talkgen", [arguments], folder).end(LIMIT_SECONDS)
        if wanted is None:
            wanted, _ = _undisturbed(nursery, scenario, room / "calm")
        found = scenario.state(folder)
        changed = [one for one in differing(wanted, found) if "config.yaml" not in one]  # names the store
        if ended.code or changed:
            tally.fail(f"{how.__name__}: afterwards: {changed[:4]} {_tail(ended)}")
        elif refused:
            tally.refuse()
        else:
            tally.survive()
    return [tally]


# Clocks and company -----------------------------------------------------------------------------------------


def jumping_clock(nursery: Nursery, base: Path, room: Path) -> list[Tally]:
    """The clock of the wall goes back and forth by years while a command runs, and files are of all times."""
    tally = Tally("clock jumps", note="years back and forth at every look at the clock, and at every file")
    for place, scenario in enumerate(commands(base)):
        wanted, _ = _undisturbed(nursery, scenario, room / f"calm{place}")
        folder = _begun(scenario, room / f"jumping{place}")
        function = scenario.function.replace("commands:", "commands:jumping_")
        for file in base.rglob("*"):
            if file.is_file():
                os.utime(file, (0, 4e9 if hash(file.name) % 2 else 1e6))
        ended = nursery.start(function, [list(scenario.arguments)], folder).end(LIMIT_SECONDS)
        _compare(tally, scenario.name, ended, scenario.state, folder, wanted)
    return [tally]


def two_at_once(nursery: Nursery, base: Path, room: Path, times: int) -> list[Tally]:
    """The same command twice in one folder: one is refused, or both come to the same end."""
    tallies = []
    for place, scenario in enumerate(commands(base)):
        tally = Tally(f"two at once: {scenario.name}")
        wanted, seconds = _undisturbed(nursery, scenario, room / f"alone{place}")
        chance = random.Random(scenario.name)
        for number in range(times):
            folder = _begun(scenario, room / f"both{place}-{number}")
            first = nursery.start(scenario.function, [list(scenario.arguments)], folder, room / "first.log")
            time.sleep(chance.uniform(0, 0.6) * seconds)
            second = nursery.start(scenario.function, [list(scenario.arguments)], folder, room / "second.log")
            ends = [first.end(LIMIT_SECONDS), second.end(LIMIT_SECONDS)]
            unclear = [one for one in ends if one.code and not is_clear(one)]
            if unclear:
                tally.fail(f"no clear message: {_tail(unclear[0])}")
            elif all(one.code for one in ends):
                tally.fail(f"both were refused: {_tail(ends[0])} {_tail(ends[1])}")
            elif changed := differing(wanted, scenario.state(folder)):
                tally.fail(f"other results: {', '.join(changed[:5])}")
            elif any(one.code for one in ends):
                tally.refuse()
            else:
                tally.survive()
        tallies.append(tally)
    return tallies


def dying_workers(nursery: Nursery, room: Path) -> list[Tally]:
    """A library crashes on two clips of a corpus: they are left out by name, and all others are prepared."""
    from readers import seeds_folder, write_seeds

    from talkgen.data.clip import RawClip
    from talkgen.data.manifest import write_manifest
    from talkgen.data.prepare import read_rejects
    from talkgen.data.store import Store

    os.environ["TALKGEN_FAULT_SEEDS"] = str(room / "seeds")
    seeds_folder.cache_clear()
    write_seeds()
    source = room / "corpus"
    source.mkdir()
    for name in ("film.mp4", "truth.npz"):
        shutil.copyfile(room / "seeds" / name, source / name)
    for number in (2, 5):
        (source / f"deadly{number}.mp4").write_bytes((source / "film.mp4").read_bytes())
    names = [f"deadly{number}.mp4" if number in (2, 5) else "film.mp4" for number in range(8)]
    clips = [
        RawClip(f"clip{number}", "demo", "train", name, f"p{number}", truth="truth.npz", notes=name)
        for number, name in enumerate(names)
    ]
    write_manifest(source / "clips.jsonl", clips)
    arguments: list[Any] = [
        "prepare", "corpus=demo", "corpus.generate=null", f"source={source}", "out=store", "workers=2",
        "settings.size=32", "settings.filters.min_seconds=0.2", "progress=false",
    ]  # fmt: skip
    tally = Tally("a library crashes in a worker of prepare", note="SIGSEGV on 2 of 8 clips")
    ended = nursery.start("commands:prepare_with_crashes", [arguments], room).end(LIMIT_SECONDS)
    if ended.code or "Traceback" in ended.said:
        tally.fail(_tail(ended))
        return [tally]
    left_out = sorted((one.clip, one.stage) for one in read_rejects(room / "store" / "rejects.csv"))
    kept = sorted(clip.id for clip in Store.open(room / "store").clips)
    if left_out == [("clip2", "worker"), ("clip5", "worker")] and kept == [
        f"clip{n}" for n in (0, 1, 3, 4, 6, 7)
    ]:
        tally.refuse(2)
        tally.survive(6)
    else:
        tally.fail(f"left out {left_out}, kept {kept}")
    return [tally]
