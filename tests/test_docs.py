"""The pages build without a warning, and name messages and options that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

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


def test_every_table_of_a_benchmark_can_be_found() -> None:
    linked = set(re.findall(r"\]\((performance/\w+\.md)\)", (DOCS / "performance.md").read_text()))
    assert linked == {f"performance/{page.name}" for page in (DOCS / "performance").glob("*.md")}


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


PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted(DOCS.glob("*.md"))]
ENTRIES = {"train.py": "train", "evaluate.py": "evaluate"}


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Name and overrides of every command line of a page that Hydra reads."""
    fenced = "\n".join(re.findall(r"^```(?:bash)?\n(.*?)^```", page.read_text(), re.S | re.M))
    lines = fenced.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line.split("  #")[0], comments=True) if line.count("'") % 2 == 0 else []
        start = re.match(
            r"(talkgen (?:train|prepare|generate|evaluate)|(?:torchrun .* |srun )?(?:python )?\w+\.py)\b",
            line,
        )
        if start is None or not words:
            continue
        name = words[1] if words[0] == "talkgen" else next((ENTRIES[w] for w in words if w in ENTRIES), None)
        if name is not None:
            found.append(
                (name, [word.lstrip("+~") for word in words if re.match(r"[+~]?[a-z_][\w./@]*=", word)])
            )
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_keys_of_commands_exist(page: Path) -> None:
    for name, overrides in commands(page):
        known = set(OmegaConf.load(config_folder() / f"{name}.yaml"))
        known |= {folder.name for folder in config_folder().iterdir() if folder.is_dir()} | {"hydra"}
        for override in overrides:
            assert override.partition("=")[0].split(".")[0] in known, f"{name}: {override}"


def test_commands_are_found() -> None:
    found = commands(DOCS / "generate.md") + commands(DOCS / "scaling.md")
    assert ("generate", ["batch=JOBS.csv"]) in found
    assert (
        "train",
        ["experiment=swaptalk_vqgan", "size=paper", "data=hdtf", "trainer=ddp", "trainer.num_nodes=2"],
    ) in found
