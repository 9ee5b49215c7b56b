"""``python tests/faults``: every fault of docs/reliability.md, counted; fails where anything is lost.

``--share 0.1`` does a tenth of everything; names of parts do these alone. A part's table replaces that of its
last run, so that the page always says what was run, when, and where.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import fuzzing
import hostile
import kills
import surroundings
from nursery import Nursery
from tally import HEADER, Tally

import studio

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"
RESULTS = Path(__file__).with_name("results.json")  # what the page is made of
KILLS = 50  # of each long command
CASES = 10_000  # damaged files
PARTS = {
    "kills": "kill -9 at a random moment, then the same command again",
    "stops": "SIGTERM and Ctrl-C at a random moment, then the same command again",
    "disks": "Disks that are full, folders that cannot be written to",
    "data": "Turned bits, numbers that are none, data that vanish",
    "company": "Clocks that jump, two runs in one folder, workers that crash",
    "damaged": "Damaged files",
    "hostile": "Files made to do harm",
}


def disturb(part: str, share: float, room: Path, nursery: Nursery) -> list[Tally]:
    """Do one part of everything."""

    def some(count: int) -> int:
        return max(1, round(share * count))

    base = room / "base"
    if part in ("kills", "stops", "disks", "data", "company"):
        kills.write_base(base)
    if part == "kills":
        begun = [
            *kills.prepare_scenarios(base),
            *kills.evaluate_scenarios(base),
            *kills.generate_scenarios(base),
        ]
        tallies = [_killed(nursery, one, some(KILLS), room) for one in begun]
        kills.train_base(base, nursery)
        trained = kills.train_scenarios(base)
        each, more = divmod(some(KILLS), len(trained))
        counts = [each + (place < more) for place in range(len(trained))]
        return tallies + [_killed(nursery, one, n, room) for one, n in zip(trained, counts, strict=True) if n]
    if part == "stops":
        return surroundings.stop_and_resume(nursery, base, room, some(10))
    if part == "disks":
        if why := surroundings.may_mount(room):
            return [Tally("full and read-only disks", note=f"not run: {why}")]
        sizes = ("16k", "64k", "256k", "700k", "1500k")[: some(5)]
        return [
            *surroundings.full_disk(nursery, base, room / "full", sizes),
            *surroundings.read_only(nursery, base, room / "readonly"),
        ]
    if part == "data":
        return [
            *surroundings.turned_bits(nursery, base, room / "bits", some(40)),
            *surroundings.not_finite(nursery, base, room / "nan"),
            *surroundings.vanished(nursery, base, room / "vanished"),
        ]
    if part == "company":
        (room / "workers").mkdir()
        return [
            *surroundings.jumping_clock(nursery, base, room / "clock"),
            *surroundings.two_at_once(nursery, base, room, some(5)),
            *surroundings.dying_workers(nursery, room / "workers"),
        ]
    if part == "damaged":
        return fuzzing.fuzz(nursery, room, some(CASES))
    here = Path.cwd()
    try:
        return [
            *hostile.pickled_code(room / "code"),
            *hostile.archives(room / "archives"),
            *hostile.huge_pictures(nursery, room / "pictures"),
            *hostile.names(nursery, room / "names"),
            *hostile.links(nursery, room / "links"),
            *studio.attacked(room / "studio"),
        ]
    finally:
        os.chdir(here)


def _killed(nursery: Nursery, scenario: kills.Scenario, count: int, room: Path) -> Tally:
    place = room / scenario.name.replace(" ", "-")
    return _said(kills.kill_and_resume(nursery, scenario, count, place))


def _said(tally: Tally) -> Tally:
    print(tally.row(), flush=True)
    return tally


def machine() -> str:
    """What the results are of."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {platform.machine()}, {memory:.0f} GB, {platform.system()} {platform.release()}"


def page(results: dict[str, dict[str, object]]) -> str:
    """The text of docs/reliability.md."""
    lines = [
        "# Reliability",
        "",
        "What was done to talkgen on purpose, and what came of it. **Survived**: the results are those of an "
        "undisturbed run, byte by byte (checkpoints: every tensor; tables of training: all but times). "
        "**Refused**: a sentence said what is wrong, nothing was lost, and where the cause could be cured "
        "the same command went on to those results. **Failed**: anything else. `make faults` does all of it, "
        "writes this page, and fails where anything failed; each table says how much of it was run.",
        "",
    ]
    for part, title in PARTS.items():
        lines += [f"## {title}", ""]
        if part not in results:
            lines += ["Not run yet.", ""]
            continue
        result = results[part]
        tallies = [Tally(**values) for values in result["tallies"]]  # type: ignore[union-attr, attr-defined]
        lines += [str(result["about"]), "", HEADER, *(tally.row() for tally in tallies), ""]
        lines += [
            f"- {tally.part}: {why.splitlines()[0][:160]}" for tally in tallies for why in tally.failures
        ]
        if any(tally.failures for tally in tallies):
            lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Disturb, count, write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of the counts; 1 by default")
    parser.add_argument("--room", type=Path, help="folder for all files; kept; else a temporary one")
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    room = given.room or Path(tempfile.mkdtemp(prefix="talkgen-faults-"))
    failed = 0
    with Nursery() as nursery:
        for part in given.parts or PARTS:
            begun = time.monotonic()
            print(f"\n{PARTS[part]}\n{HEADER}", flush=True)
            (room / part).mkdir(parents=True)
            tallies = disturb(part, given.share, room / part, nursery)
            if part != "kills":
                for tally in tallies:
                    _said(tally)
            for tally in tallies:
                for why in tally.failures:
                    print(f"FAILED {tally.part}: {why}", flush=True)
            failed += sum(tally.failed for tally in tallies)
            minutes = (time.monotonic() - begun) / 60
            share = "" if given.share == 1 else f", {100 * given.share:g} % of the whole"
            about = f"{datetime.date.today()}, {machine()}, {minutes:.0f} minutes{share}."
            results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            results[part] = {"about": about, "tallies": [asdict(tally) for tally in tallies]}
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
            PAGE.write_text(page(results))
    if given.room is None and not failed:
        shutil.rmtree(room)
    elif failed:
        print(f"\n{failed} failed; the files are in {room}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
