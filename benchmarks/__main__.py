"""Every benchmark one after the other, the short ones first, within a limit of time.

    python benchmarks                        # all; tables go to docs/performance, an hour at most
    python benchmarks audio samplers         # these
    python benchmarks --list                 # names, seconds on two idle cores, arguments
    python benchmarks --clips FOLDER --runs FOLDER

Some read talking-face clips (``--clips``; else those of the tests, ``$TALKGEN_SHARED/realclips/clips``).
Where there are none and rendered ones can stand for them, a few are rendered, and the table is printed only,
so that it replaces none of real clips. Some need a trained method (``--runs``). A benchmark that fails, or
takes four times as long as it should, stops none of the others; the command then ends with 1. What the hour
leaves no time for is named, and its last table stays.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from document import INDEX, ROOT, index, processor, read_between, write_between

from talkgen.errors import TalkgenError

PATIENCE = 4  # times the seconds that a benchmark should take
LEAST = 90  # seconds that each may take
CLIPS, RUNS = "{clips}", "{runs}"


@dataclass(frozen=True)
class Benchmark:
    """A script and how it is run here.

    Attributes:
        name: of the script.
        seconds: on two idle cores.
        arguments: ``{clips}`` and ``{runs}`` stand for the folders.
        rendered: whether clips of the demo corpus can stand for real ones.
    """

    name: str
    seconds: float
    arguments: str = ""
    rendered: bool = False


BENCHMARKS = (
    Benchmark("audio", 8),
    Benchmark("disenttalk_motion", 15),
    Benchmark("samplers", 20),
    Benchmark("face_fitting", 25),
    Benchmark("demo_rendering", 30),
    Benchmark("cloud_store", 60),
    Benchmark("ray_workers", 60),
    Benchmark("provenance", 60, CLIPS, rendered=True),
    Benchmark("startup", 65),
    Benchmark("disenttalk", 75, "--quick"),
    Benchmark("swaptalk", 90),
    Benchmark("vqgan", 100),
    Benchmark("latents", 110, "--paper"),
    Benchmark("loader", 120, f"--videos {CLIPS} --seconds 1", rendered=True),
    Benchmark("faces", 140, CLIPS),
    Benchmark("generate", 330, f"{CLIPS} --run {RUNS}/swaptalk-demo --seconds 5 60"),
    Benchmark("threads", 190, "--repeats 2"),
    Benchmark("diff2lip", 200, f"--run {RUNS}/diff2lip-demo --clips 4"),
    Benchmark("diff2lip_network", 210, "--repeats 2"),
    Benchmark("data_scale", 240),
    Benchmark("training_steps", 250, "--seconds 240"),
    Benchmark("memory_recipes", 20),
    Benchmark(
        "evaluation", 420, f"{CLIPS} --clips 8 --frames 50 --size 256 --baseline-clips 1 --processes 2"
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one.

    Attributes:
        name: of the script.
        what: "written", "printed", "skipped", "not run" or "failed".
        why: of what is not written.
        seconds: that it took; 0 where it did not begin.
    """

    name: str
    what: str
    why: str = ""
    seconds: float = 0.0

    def row(self) -> str:
        """A line of the table."""
        said = f"{self.what}: {self.why}" if self.why else self.what
        said = re.sub(r"(?<![\w.~])(/[\w.-]+)+/", "…/", said)  # folders of this machine
        said = " ".join(said.split()).replace("|", "/")
        seconds = f"{self.seconds:.0f}" if self.seconds else "–"
        return f"| `{self.name}` | {seconds} | {said[:240]} | {date.today().isoformat()}, {processor()} |"


HEADER = ["| script | s | result | when and where |", "|---|---:|---|---|"]


class Inputs:
    """The folders that benchmarks read.

    Args:
        clips: of talking faces; None: none.
        runs: of trained methods.
        render: makes clips when there are none; called once.
    """

    def __init__(self, clips: Path | None, runs: Path, render: Callable[[], Path]) -> None:
        self.clips, self.runs, self._render = clips, runs, render
        self._made: Path | None = None

    def needs(self, benchmark: Benchmark) -> str:
        """What is absent, in words; nothing: empty."""
        if CLIPS in benchmark.arguments and self.clips is None and not benchmark.rendered:
            return "needs --clips FOLDER"
        for name in re.findall(rf"{RUNS}/([\w-]+)", benchmark.arguments):
            if not (self.runs / name).is_dir():
                return f"needs {name} in --runs FOLDER (python train.py makes it)"
        return ""

    def stand_in(self, benchmark: Benchmark) -> bool:
        """Whether rendered clips stand for real ones."""
        return CLIPS in benchmark.arguments and self.clips is None

    def fill(self, benchmark: Benchmark) -> list[str]:
        """Its arguments, with folders."""
        words = shlex.split(benchmark.arguments)
        if CLIPS in benchmark.arguments:
            clips = self.clips
            if clips is None:
                clips = self._made = self._made or self._render()
            words = [word.replace(CLIPS, str(clips)) for word in words]
        return [word.replace(RUNS, str(self.runs)) for word in words]


def run(command: Sequence[str], limit: float) -> tuple[int | None, str, float]:
    """A script's exit status (None: it took too long), what it said on stderr, and its seconds."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said, start_new_session=True)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
        said.seek(0)
        return status, said.read(), time.monotonic() - began


def end(process: subprocess.Popen[bytes]) -> None:
    """End a script and all that it started; a moment to tidy up comes first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def cause(status: int, said: str) -> tuple[str, str]:
    """Whether a script failed or was skipped for what this machine lacks, and why."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Missing\w+)\b", line)]
    last = (errors or lines or [f"exit status {status}"])[-1]
    if found := re.match(r"talkgen\.errors\.Missing(?:Weights|Package): (.*)", last):
        return "skipped", f"needs {found[1]}"
    if found := re.match(r"ModuleNotFoundError: No module named '(\w+)'", last):
        return "skipped", f"needs the package {found[1]}"
    if found := re.match(r"talkgen\.errors\.FileError: (.*: no such folder; `talkgen prepare)", last):
        return "skipped", f"needs the store {found[1]}`"
    return "failed", last


def measure(benchmark: Benchmark, folder: Path, inputs: Inputs, left: float, write: bool) -> Outcome:
    """Run one, whose time is at most what is left."""
    if absent := inputs.needs(benchmark):
        return Outcome(benchmark.name, "skipped", absent)
    if left < benchmark.seconds:
        return Outcome(benchmark.name, "not run", "out of time")
    stand_in = inputs.stand_in(benchmark)
    keeps = write and not stand_in
    try:
        command = [sys.executable, str(folder / f"{benchmark.name}.py"), *inputs.fill(benchmark)]
    except TalkgenError as error:
        return Outcome(benchmark.name, "skipped", f"needs --clips FOLDER, as none could be rendered: {error}")
    limit = min(left, max(LEAST, PATIENCE * benchmark.seconds))
    status, said, seconds = run([*command, *["--write"] * keeps], limit)
    if status is None and limit == left:
        return Outcome(benchmark.name, "not run", f"out of time after {seconds:.0f} s", seconds)
    if status is None:
        why = f"took longer than {limit:.0f} s, where {benchmark.seconds:.0f} are usual"
        return Outcome(benchmark.name, "failed", why, seconds)
    if status:
        print("\n".join(said.splitlines()[-20:]), flush=True)
        return Outcome(benchmark.name, *cause(status, said), seconds)
    if keeps:
        return Outcome(benchmark.name, "written", seconds=seconds)
    why = "rendered clips stood for real ones" if stand_in else ""
    return Outcome(benchmark.name, "printed", why, seconds)


def measure_all(
    chosen: Sequence[Benchmark], folder: Path, inputs: Inputs, seconds: float, write: bool
) -> list[Outcome]:
    """Run them, the short ones first, and say how long it will take."""
    began = time.monotonic()
    outcomes: list[Outcome] = []
    waiting = sorted(chosen, key=lambda one: one.seconds)
    usual = taken = 0.0  # seconds of those that came to their end
    for number, benchmark in enumerate(waiting, 1):
        spent = time.monotonic() - began
        pace = taken / usual if usual else 1.0
        rest = sum(one.seconds for one in waiting[number - 1 :] if not inputs.needs(one))
        finish = datetime.now() + timedelta(seconds=min(pace * rest, max(seconds - spent, 0)))
        print(
            f"\n[{number}/{len(waiting)}] {benchmark.name}: about {pace * benchmark.seconds:.0f} s; "
            f"all done at about {finish:%H:%M}\n",
            flush=True,
        )
        try:
            outcome = measure(benchmark, folder, inputs, seconds - spent, write)
        except KeyboardInterrupt:
            outcomes += [Outcome(one.name, "not run", "interrupted") for one in waiting[number - 1 :]]
            break
        if outcome.what in ("written", "printed"):
            usual, taken = usual + benchmark.seconds, taken + outcome.seconds
        outcomes.append(outcome)
        print(f"{outcome.name}: {outcome.what}{': ' * bool(outcome.why)}{outcome.why}", flush=True)
    return outcomes


def counts(results: Sequence[str]) -> str:
    """How many came to what."""
    count = Counter(results)
    kinds = ("written", "printed", "skipped", "not run", "failed")
    named = ", ".join(f"{count[kind]} {kind}" for kind in kinds if count[kind] or kind == "failed")
    return f"{len(results)} tried: {named}."


def keep_summary(outcomes: Sequence[Outcome], names: Sequence[str], page: Path = INDEX) -> None:
    """Put the outcomes into the table of the page, where those of other scripts stay.

    Args:
        outcomes: of this run.
        names: of all scripts, in order.
        page: with the marks.
    """
    rows = {line.split("`")[1]: line for line in read_between(page, "runs").splitlines() if "| `" in line}
    rows |= {outcome.name: outcome.row() for outcome in outcomes}
    kept = [rows[name] for name in names if name in rows]
    results = [row.split("|")[3].split(":")[0].strip() for row in kept]
    write_between(page, "runs", "\n".join([counts(results), "", *HEADER, *kept]))


def render(folder: Path) -> Path:
    """A few clips of the demo corpus, at the size of real ones."""
    from talkgen.data.corpora.demo import generate_demo
    from talkgen.data.corpora.demo_casting import DemoSettings

    print("rendering clips", flush=True)
    settings = DemoSettings(
        identities=4, clips_per_identity=1, swaps_per_identity=0, seconds=4.0, size_pixels=320
    )
    generate_demo(folder / "rendered", settings, workers=1)
    return folder / "rendered" / "videos"


def real_clips() -> Path | None:
    """Where the tests have theirs."""
    shared = Path(os.environ.get("TALKGEN_SHARED", ROOT.parent / "shared"))
    clips = shared / "realclips" / "clips"
    return clips if clips.is_dir() else None


def main() -> int:
    """Run, sum up, and say whether anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = {one.name: one for one in BENCHMARKS}
    parser.add_argument("names", nargs="*", metavar="NAME", help="of scripts; default: all")
    parser.add_argument("--minutes", type=float, default=60, help="that all may take (default 60)")
    parser.add_argument("--clips", type=Path, default=real_clips(), help="folder of talking-face clips")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="folder of runs (default runs)")
    parser.add_argument("--print", action="store_true", help="write nothing")
    parser.add_argument("--list", action="store_true", help="say what would run, and run nothing")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(known)}")
    if given.clips is not None and not given.clips.is_dir():
        parser.error(f"no folder {given.clips}")
    chosen = [known[name] for name in given.names] or list(BENCHMARKS)
    if given.list:
        for one in sorted(chosen, key=lambda one: one.seconds):
            print(f"{one.name:20}{one.seconds:5.0f} s  {one.arguments}")
        print(f"{'together':20}{sum(one.seconds for one in chosen):5.0f} s")
        return 0
    with tempfile.TemporaryDirectory() as room:
        clips = given.clips.resolve() if given.clips else None
        inputs = Inputs(clips, given.runs.resolve(), lambda: render(Path(room)))
        outcomes = measure_all(chosen, ROOT / "benchmarks", inputs, 60 * given.minutes, not given.print)
    print("\n".join(["", *HEADER, *(one.row() for one in outcomes), ""]))
    print(counts([one.what for one in outcomes]))
    if not given.print:
        keep_summary(outcomes, list(known))
        write_between(INDEX, "pages", index())
    return int(any(one.what == "failed" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
