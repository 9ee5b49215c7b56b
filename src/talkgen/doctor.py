"""``talkgen doctor``: what is installed, what is missing, and the command that cures each lack.

Exit code 0 unless something that every use needs is broken. Takes a few seconds, because it really imports
torch, torchvision and the codecs: a package that is installed and does not work is what it is there to find.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from talkgen import weights


class State(Enum):
    """How a thing is; the value is its mark in the report."""

    GOOD = "✓"
    ABSENT = "–"  # only some uses need it
    BROKEN = "✗"  # every use needs it


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        state: good, absent or broken.
        subject: what was looked at.
        text: what was found.
        cure: what to do about it, a command where there is one; empty for good findings.
    """

    state: State
    subject: str
    text: str
    cure: str = ""


def check_python() -> Iterator[Finding]:
    """The interpreter."""
    place = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    system = f"{platform.system()} {platform.machine()}"
    yield Finding(State.GOOD, "python", f"{platform.python_version()}, {system}, {place}")


def requirements() -> list[tuple[str, str, str]]:
    """What talkgen's metadata asks for, without its development tools: (extra or "", package, versions)."""
    from packaging.requirements import Requirement

    found = []
    for line in importlib.metadata.requires("talkgen") or []:
        requirement = Requirement(line)
        extras = [
            extra
            for extra in importlib.metadata.metadata("talkgen").get_all("Provides-Extra") or []
            if requirement.marker and requirement.marker.evaluate({"extra": extra})
        ]
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        for extra in [""] if wanted else extras:
            if extra != "dev":
                found.append((extra, requirement.name, str(requirement.specifier)))
    return found


def check_packages() -> Iterator[Finding]:
    """Required packages on one line, what is wrong with any of them on lines of its own; then the extras."""
    from packaging.specifiers import SpecifierSet

    good: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {}
    cures: dict[str, list[str]] = {}
    try:
        wanted = requirements()
    except importlib.metadata.PackageNotFoundError:
        text = "talkgen runs from a folder and is not installed, so what it needs is not known"
        yield Finding(State.BROKEN, "packages", text, "pip install -e . in the checkout")
        return
    for extra, package, versions in wanted:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            wrong.setdefault(extra, []).append(f"{package} is absent")
            cures.setdefault(extra, []).append(f'"{package}{versions}"')
            continue
        if SpecifierSet(versions).contains(version.partition("+")[0], prereleases=True):
            good.setdefault(extra, []).append(f"{package} {version}")
        else:
            wrong.setdefault(extra, []).append(f"{package} is {version}, wanted {versions}")
            cures.setdefault(extra, []).append(f'"{package}{versions}"')
    if "" in wrong:
        cure = f"pip install {' '.join(cures[''])}"
        yield Finding(State.BROKEN, "packages", ", ".join(wrong[""]), cure)
    yield Finding(State.GOOD, "packages", ", ".join(good.get("", [])))
    for extra in sorted({*good, *wrong} - {""}):
        if extra in wrong:
            cure = f"pip install {' '.join(cures[extra])}"
            yield Finding(State.ABSENT, f"extra {extra}", ", ".join(wrong[extra]), cure)
        else:
            yield Finding(State.GOOD, f"extra {extra}", ", ".join(good[extra]))


def check_torch() -> Iterator[Finding]:
    """torch, and whether torchvision was built for it: the pair is the field's most common broken install."""
    cure = "pip install --force-reinstall torch torchvision, both from the same index"
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding(State.BROKEN, "torch", _first_line(error), cure)
        return
    yield Finding(State.GOOD, "torch", f"{torch.__version__} computes")
    try:
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        yield Finding(
            State.BROKEN,
            "torchvision",
            f"does not match torch {torch.__version__}: {_first_line(error)}",
            cure,
        )
        return
    yield Finding(State.GOOD, "torchvision", f"{torchvision.__version__} matches torch")


def check_device() -> Iterator[Finding]:
    """GPU, cores, threads and memory."""
    try:
        import torch
    except (ImportError, OSError):
        return  # said above
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            formats = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
            text = f"{device.name}, {device.total_memory / 1e9:.0f} GB, {formats}"
            yield Finding(State.GOOD, f"GPU {index}", text)
    elif torch.backends.mps.is_available():
        yield Finding(State.GOOD, "GPU", "Apple Metal (trainer.accelerator=mps)")
    elif shutil.which("nvidia-smi"):
        text = f"there is an NVIDIA driver, and torch {torch.__version__} does not reach the GPU"
        yield Finding(State.ABSENT, "GPU", text, "install a CUDA build of torch that suits the driver")
    else:
        cure = "tiny and demo sizes train on a CPU (trainer=cpu); paper sizes want a GPU"
        yield Finding(State.ABSENT, "GPU", "none", cure)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        text = f"{cores} cores, but torch runs {threads} threads"
        yield Finding(State.ABSENT, "CPU", text, f"export OMP_NUM_THREADS={cores}")
    else:
        yield Finding(State.GOOD, "CPU", f"{cores} cores, torch runs {threads} threads")
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield Finding(State.GOOD, "memory", f"{memory / 1e9:.0f} GB")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Loader processes hand batches over in shared memory; containers often have 64 MB of it."""
    if not folder.is_dir():
        return
    size = shutil.disk_usage(folder).total
    text = f"{size / 1e9:.1f} GB"
    if size < 1e9:
        cure = "start the container with --shm-size=8g, or train with data.workers=0"
        yield Finding(State.ABSENT, "shared memory", f"{text}: loader processes may die of a bus error", cure)
    else:
        yield Finding(State.GOOD, "shared memory", text)


def check_video() -> Iterator[Finding]:
    """PyAV with its FFmpeg, and the encoders that videos are written with."""
    try:
        import av
    except (ImportError, OSError) as error:
        yield Finding(State.BROKEN, "ffmpeg", _first_line(error), "pip install --force-reinstall av")
        return
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    missing = [name for name in ("libx264", "aac") if not _can_encode(name)]
    if missing:
        text = f"PyAV {av.__version__} cannot encode with {' and '.join(missing)}"
        yield Finding(State.BROKEN, "ffmpeg", text, "pip install --force-reinstall --only-binary av av")
    else:
        yield Finding(State.GOOD, "ffmpeg", f"in PyAV {av.__version__}: avcodec {libavcodec}, libx264, aac")


def _can_encode(codec: str) -> bool:
    import av

    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True


def check_weights() -> Iterator[Finding]:
    """Pretrained files: what the demo needs, then the rest of what is used by tests, then everything else."""
    place = weights.folder()
    for subject, names in (("demo", weights.SETS["demo"]), ("tests", weights.SETS["tests"])):
        absent = [name for name in names if not weights.available(name)]
        if absent:
            text = f"{len(names) - len(absent)} of {len(names)} in {place}; absent: {', '.join(absent)}"
            yield Finding(State.ABSENT, f"weights: {subject}", text, f"talkgen weights get --set {subject}")
        else:
            yield Finding(State.GOOD, f"weights: {subject}", f"all {len(names)} in {place}")
    rest = [name for name in weights.REGISTRY if name not in weights.SETS["tests"]]
    present = [name for name in rest if weights.available(name)]
    absent = [name for name in rest if name not in present]
    if absent:
        text = f"{len(present)} of {len(rest)}; absent: {', '.join(absent)}"
        yield Finding(State.ABSENT, "weights: others", text, "talkgen weights list says what each is for")
    else:
        yield Finding(State.GOOD, "weights: others", f"all {len(rest)}")


def check_folders() -> Iterator[Finding]:
    """Folders that are written to, with the room on their disks, and the configs that are read."""
    cures = {
        "working folder": "cd to a folder of your own: runs/ and prepared/ are made in it",
        "weights folder": "export TALKGEN_WEIGHTS=a folder of your own",
        "temporary folder": "export TMPDIR=a folder of your own",
    }
    places = (Path.cwd(), weights.folder(), Path(tempfile.gettempdir()))
    for (subject, cure), place in zip(cures.items(), places, strict=True):
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        if not os.access(existing, os.W_OK):
            yield Finding(State.ABSENT, subject, f"{place} cannot be written to", cure)
        elif free < 5e9:
            text = f"{place}, only {free / 1e9:.1f} GB free"
            yield Finding(State.ABSENT, subject, text, f"make room, or {cure}")
        else:
            yield Finding(State.GOOD, subject, f"{place}, {free / 1e9:.0f} GB free")
    try:
        from talkgen.configuration import config_folder
    except ImportError:
        return  # a required package is absent, which is said above
    configs = config_folder()
    if (configs / "train.yaml").is_file():
        yield Finding(State.GOOD, "configs", str(configs))
    else:
        text = f"{configs} has no train.yaml"
        yield Finding(State.BROKEN, "configs", text, "install talkgen again")


def check_tracking() -> Iterator[Finding]:
    """Where training curves go."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode and mode not in {"online", "offline", "disabled", "dryrun", "run", "shared"}:
        text = f"WANDB_MODE={mode} is none of wandb's modes"
        yield Finding(State.ABSENT, "wandb", text, "export WANDB_MODE=online, offline or disabled")
    else:
        text = f"WANDB_MODE={mode}" if mode else "offline unless a run says otherwise; no account is needed"
        yield Finding(State.GOOD, "wandb", text)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


SECTIONS: dict[str, tuple[Callable[[], Iterator[Finding]], ...]] = {
    "Software": (check_python, check_packages, check_torch, check_video),
    "Machine": (check_device, check_shared_memory),
    "Files": (check_weights, check_folders),
    "Tracking": (check_tracking,),
}


def report() -> tuple[str, bool]:
    """The whole report, and whether nothing that every use needs is broken."""
    lines: list[str] = []
    sound = True
    for title, checks in SECTIONS.items():
        lines += ["", title] if lines else [title]
        for check in checks:
            for finding in check():
                lines.append(f"  {finding.state.value} {finding.subject}: {finding.text}")
                if finding.cure:
                    lines.append(f"      → {finding.cure}")
                sound = sound and finding.state is not State.BROKEN
    verdict = "talkgen can be used here." if sound else "Something that every use needs is broken (✗ above)."
    return "\n".join([*lines, "", f"{verdict} ✓ good   – absent, some uses need it   ✗ broken"]), sound


def memory_advice(experiment: str) -> list[str]:
    """Which recipe of a stage, or of each stage of a method, fits on the smallest GPU of this machine.

    Raises:
        TalkgenError: there is no such experiment, or it trains nothing.
    """
    import torch

    from talkgen.configuration import config_folder
    from talkgen.memory_recipes import advice, footprints

    known = footprints()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = min((torch.cuda.get_device_properties(i).total_memory for i in range(count)), default=None)
    file = config_folder() / "experiment" / f"{experiment}.yaml"
    stages = [experiment]
    if experiment not in known and file.is_file():
        from omegaconf import OmegaConf

        listed = OmegaConf.select(OmegaConf.load(file), "stages") or [experiment]
        stages = [stage for stage in listed if stage in known]
    return [line for stage in stages or [experiment] for line in [*advice(stage, memory, known), ""]][:-1]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line ``talkgen doctor``.

    Args:
        argv: arguments after ``talkgen doctor``; None reads the process's own.

    Returns:
        exit code: 0, or 1 when something that every use needs is broken.
    """
    parser = argparse.ArgumentParser(
        prog="talkgen doctor",
        description="Say what is installed, what is missing, and how to cure each lack.",
    )
    parser.add_argument(
        "--experiment",
        metavar="STAGE",
        help="say instead which batch of a stage fits on this GPU at size=paper",
    )
    given = parser.parse_args(argv)
    if given.experiment is not None:
        print("\n".join(memory_advice(given.experiment)))
        return 0
    text, sound = report()
    print(text)
    return 0 if sound else 1
