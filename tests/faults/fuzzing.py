"""Thousands of damaged files, read in processes that are watched."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nursery import Child, Nursery
from readers import KINDS, cases
from tally import Tally

HANG_SECONDS = 10.0  # of processor time, so that what else runs on the machine does not count
ASLEEP_SECONDS = 120.0  # of the clock, for a reader that waits for something


@dataclass
class Reading:
    """A process that reads damaged files, and how far it is."""

    child: Child
    report: Path
    left: list[int]
    since: float
    lines: int = 0
    current: int | None = None
    used: float = 0.0

    def processor_seconds(self) -> float:
        """What the process has used so far; 0 where it has gone."""
        try:
            fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fuzz(nursery: Nursery, room: Path, total: int, processes: int = 2) -> list[Tally]:
    """Read ``total`` damaged files.

    Args:
        nursery: where processes come from.
        room: folder for all of it; files that made trouble stay in ``trouble``.
        total: number of cases; they are the same in every run.
        processes: that read side by side.

    Returns:
        A tally for each kind of file.
    """
    room.mkdir(parents=True, exist_ok=True)
    seeds = room / "seeds"
    seeds.mkdir(exist_ok=True)
    made = nursery.start("fuzzing:make_seeds", [str(seeds)], room).end(300)
    if made.code:
        raise RuntimeError(f"no sound files: {made.said[-800:]}")
    kinds = {number: kind.name for number, kind in cases(total)}
    tallies = {kind.name: Tally(f"damaged {kind.name}") for kind in KINDS}
    slowest: dict[str, float] = defaultdict(float)
    peak = 0

    def begin(place: int, numbers: list[int]) -> Reading:
        home = room / f"reader{place}"
        home.mkdir(exist_ok=True)
        report = room / f"report{place}.jsonl"
        report.write_text("")
        arguments: list[Any] = [str(seeds), str(report), total, numbers]
        return Reading(
            nursery.start("readers:read_damaged", arguments, home), report, numbers, time.monotonic() + 60
        )

    running = {place: begin(place, list(range(place, total, processes))) for place in range(processes)}
    while running:
        time.sleep(0.05)
        for place, reading in list(running.items()):
            ended = reading.child.poll()
            lines = reading.report.read_text().splitlines()
            for line in lines[reading.lines :]:
                try:
                    said = json.loads(line)
                except ValueError:  # half a line, of a process that is writing
                    break
                reading.lines += 1
                if "begin" in said:
                    reading.current, reading.since = said["begin"], time.monotonic()
                    reading.used = reading.processor_seconds()
                    continue
                reading.current = None
                reading.left.remove(said["end"])
                kind = kinds[said["end"]]
                slowest[kind] = max(slowest[kind], said["seconds"])
                peak = max(peak, said["peak"])
                _count(tallies[kind], said)
            hung = reading.current is not None and (
                reading.processor_seconds() - reading.used > HANG_SECONDS
                or time.monotonic() - reading.since > ASLEEP_SECONDS
            )
            if hung:
                reading.child.kill()
                reading.child.wait()
            if ended is None and not hung:
                continue
            del running[place]
            if reading.current is not None:
                number = reading.current
                code = None if ended is None else ended.code
                why = "took longer than 10 s" if hung else f"the process died (exit code {code})"
                tallies[kinds[number]].fail(f"case {number}: {why}")
                reading.left.remove(number)
            elif ended is not None and ended.code:
                raise RuntimeError(f"the readers cannot even begin: {ended.said[-800:]}")
            if reading.left:
                running[place] = begin(place, reading.left)
    for name, tally in tallies.items():
        tally.note = f"slowest {slowest[name]:.1f} s" if tally.tried else ""
    shown = [tally for tally in tallies.values() if tally.tried]
    if shown:
        shown[-1].note += f"; greatest memory of a reader, all kinds: {peak} MB"
    return shown


def _count(tally: Tally, said: dict[str, Any]) -> None:
    if said["seconds"] > HANG_SECONDS:
        tally.fail(f"case {said['end']}: took {said['seconds']:.0f} s")
    elif said["outcome"] == "read":
        tally.survive()
    elif said["outcome"] == "refused":
        tally.refuse()
    else:
        tally.fail(f"case {said['end']}: {said['outcome']}: {said['why']}")


def make_seeds(folder: str) -> int:
    """In a child: write the sound files."""
    import os

    os.environ["TALKGEN_FAULT_SEEDS"] = folder
    import readers

    readers.write_seeds()
    return 0
