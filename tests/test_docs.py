"""The pages build without a warning, and name messages and options that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from talkgen.cli import COMMANDS
from talkgen.configuration import config_folder

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_pages_build_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "data.html", "troubleshooting.html", "performance/loader.html"):
        assert (tmp_path / "site" / page).is_file()
    home = (tmp_path / "site" / "index.html").read_text()
    assert not re.findall(
        r'<(?:script|link)[^>]+(?:src|href)="https?://(?!talkgen)', home
    )  # readable offline


def test_messages_of_the_troubleshooting_page_exist() -> None:
    code = " ".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s+f?"', "", code)  # sentences that go over several lines
    headings = re.findall(r"^### (.*`.*)$", (DOCS / "troubleshooting.md").read_text(), re.M)
    assert len(headings) > 20
    foreign = {"CUDA out of memory", "operator torchvision::nms does not exist"}
    for message in (one for heading in headings for one in re.findall(r"`([^`]+)`", heading)):
        if message in foreign or message.endswith("="):
            continue
        for part in filter(None, (part.strip(" ;:") for part in message.split("…"))):
            assert part in code, message


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_commands_and_experiments_exist(page: Path) -> None:
    text = page.read_text()
    fenced = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S))
    for name in re.findall(r"^talkgen ([a-z]+)", fenced, re.M) + re.findall(r"`talkgen ([a-z]+)", text):
        assert name in COMMANDS, name
    for group, names in re.findall(r"\b(experiment|trainer|data|corpus)=([a-z_0-9|]+)", text):
        for name in names.split("|"):
            plugin = name == "tinylips" or page.name == "architecture.md"
            assert plugin or (config_folder() / group / f"{name}.yaml").is_file(), f"{group}={name}"
