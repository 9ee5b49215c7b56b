"""Hooks of ``mkdocs.yml``: pages that lie elsewhere in the repository, and links that lead out of ``docs``.

``data/README.md``, ``CONTRIBUTING.md`` and ``CHANGELOG.md`` are read where they are; further pages of
``docs`` join the navigation by themselves. A link to a file that is no page becomes its path, since the pages
are read without the repository around them.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "data/README.md": "data.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s:#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(```.*?```)", re.S)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from elsewhere."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name under *More*, measurements under *Measure*."""
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    docs = Path(config["docs_dir"])
    pages = sorted(file.relative_to(docs).as_posix() for file in docs.rglob("*.md"))
    further = [page for page in pages if page not in named and not page.startswith("notebooks/")]
    speeds = [page for page in further if page.startswith("performance/")]
    for section in config["nav"]:
        if "Measure" in section:
            section["Measure"] += [{"Performance": speeds}] if speeds else []
    rest = [page for page in further if page not in speeds]
    if rest:
        config["nav"].append({"More": rest})
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to where the pages are."""
    source = next((own for own, name in ELSEWHERE.items() if name == page.file.src_uri), None)
    here = posixpath.dirname(source if source else f"docs/{page.file.src_uri}")

    def led(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(here, target))
        uri = ELSEWHERE.get(path) or path.removeprefix("docs/")
        if files.get_file_from_path(uri) is not None:
            return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"
        if (ROOT / path).exists():
            return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"
        return match[0]  # mkdocs complains of it

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(led, part) for part in parts)
