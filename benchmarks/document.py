"""Where benchmarks put their tables: between marks of a page in docs/performance, with command and machine.

What stands around the marks was written by hand and stays; so does every table whose script did not run.
Tables of a GPU have pages of their own, so that no run on a CPU replaces them.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from talkgen.data.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "docs" / "performance.md"
PAGES = ROOT / "docs" / "performance"
SUBJECTS: dict[str, dict[str, str]] = {
    "where a training step's time goes": {"training_steps": "every stage", "startup": "until the first step"},
    "what of a training fits on which GPU": {"memory_recipes": "memory recipes"},
    "SwapTalk": {"swaptalk": "its parts", "vqgan": "VQGAN", "latents": "cache of codes"},
    "Diff2Lip": {
        "diff2lip": "quality against cost",
        "diff2lip_network": "network at its published size",
        "samplers": "samplers",
    },
    "DisentTalk": {
        "disenttalk": "rendering and motion",
        "disenttalk_motion": "samplers of motion",
        "face_fitting": "coefficients from landmarks",
    },
    "data": {
        "loader": "storage format and loader",
        "data_scale": "a million clips, stores in the cloud, Ray",
        "faces": "faces",
        "audio": "audio",
        "demo_rendering": "drawing the demo corpus",
        "threads": "threads",
    },
    "use": {"generate": "talkgen generate", "provenance": "watermark", "evaluation": "evaluation"},
}
"""Subject → page → what its link says."""


def page(name: str, device: str = "cpu") -> Path:
    """Where a benchmark keeps its tables; those of a GPU lie beside those of the CPU."""
    return PAGES / f"{name}{'' if device == 'cpu' else '_gpu'}.md"


def keep(name: str, title: str, text: str, part: str = "table", device: str = "cpu") -> None:
    """Put a table where it belongs, with the command that made it and the machine.

    Args:
        name: of the page.
        title: of the page, should it not exist.
        text: the table and what is said about this run.
        part: the marks of the page between which it stands; a page that does not exist has this one alone.
        device: that was measured.
    """
    file = page(name, device)
    if not file.is_file():
        heading = title if device == "cpu" else f"{title}, on a GPU"
        write_atomically(file, f"# {heading}\n\n<!-- {part} -->\n<!-- end of {part} -->\n".encode())
        write_between(INDEX, "pages", index())
    about = f"Made by `{command()}`, which says what is measured and against what: {machine(device)}."
    write_between(file, part, f"{about}\n\n{text.strip()}")


def write_between(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks ``<!-- name -->`` and ``<!-- end of name -->`` of a page."""
    before, after = _around(document, name)
    begin, end = _marks(name)
    write_atomically(document, f"{before}{begin}\n{text}\n{end}{after}".encode())


def read_between(document: Path, name: str) -> str:
    """What stands between the marks."""
    before, after = _around(document, name)
    begin, end = _marks(name)
    return document.read_text("utf-8").removeprefix(before + begin).removesuffix(end + after)


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def _around(document: Path, name: str) -> tuple[str, str]:
    """What stands before and behind the marks."""
    content = document.read_text("utf-8")
    begin, end = _marks(name)
    if content.count(begin) != 1 or content.count(end) != 1:
        raise ValueError(f"{document.name} needs the lines {begin} and {end}, once each")
    return content.split(begin)[0], content.split(end)[1]


def index() -> str:
    """A table of the pages that exist."""
    existing = {file.stem for file in PAGES.glob("*.md")}
    known = {name for pages in SUBJECTS.values() for name in pages}
    further = {name: name for name in sorted(existing) if name.removesuffix("_gpu") not in known}
    lines = ["| what | pages |", "|---|---|"]
    for subject, pages in [*SUBJECTS.items(), ("further", further)]:
        links = []
        for name, says in pages.items():
            for stem, where in ((name, ""), (f"{name}_gpu", ", on a GPU")):
                if stem in existing:
                    links.append(f"[{says}{where}](performance/{stem}.md)")
        if links:
            lines.append(f"| {subject} | {', '.join(links)} |")
    return "\n".join(lines)


def command() -> str:
    """The command that runs, without the folders of this machine."""
    words = [
        Path(word).name if os.sep in word and Path(word).exists() else word
        for word in sys.argv[1:]
        if word != "--write"
    ]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words, "--write"])


def processor() -> str:
    """Name of the processor, and how many of its cores may be used."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names and names[0] else platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name} ({platform.machine()}), {cores} cores"


def machine(device: str = "cpu") -> str:
    """When and on what, how busy that is with everything, and the versions that matter to times."""
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    what = f"{processor()}{load}"
    if "torch" in sys.modules:
        import torch

        threads = torch.get_num_threads()
        what += f", {threads} thread{'s' if threads > 1 else ''} of PyTorch"
        if device != "cpu":
            what = f"one {torch.cuda.get_device_name()}; {what}"
    packages = [f"{name} {version(name)}" for name in ("torch", "numpy") if name in sys.modules]
    today = datetime.date.today().isoformat()
    return ", ".join([f"{today}, {what}", f"Python {platform.python_version()}", *packages])
