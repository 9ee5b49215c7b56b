"""Where benchmarks put their tables: between marks of a page, with the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def write_between(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks ``<!-- name -->`` and ``<!-- end of name -->`` of a page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    content = document.read_text()
    before, after = content.split(begin)[0], content.split(end)[1]
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def machine() -> str:
    """Processor, cores and how busy they are with other things, for the line under a table."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.machine()
    load = os.getloadavg()[1]
    return f"{name}, {os.cpu_count()} cores, load average {load:.0f}, Python {platform.python_version()}"
