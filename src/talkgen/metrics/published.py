"""What papers say about themselves, kept apart from what was measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from talkgen.configuration import config_folder, options
from talkgen.errors import TalkgenError
from talkgen.metrics.grid import markdown_grid


@dataclass(frozen=True)
class PublishedTable:
    """Numbers as published. Other clips, other code, other crops: never to be compared with a measured row.

    Attributes:
        title: what it is.
        source: where it stands.
        columns: names as published.
        rows: name → values as printed, one a column, empty where there is none.
        notes: what a reader must know.
    """

    title: str
    source: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the columns."""
        for name, values in self.rows.items():
            if len(values) != len(self.columns):
                raise ValueError(f"row {name!r} has {len(values)} values for {len(self.columns)} columns")

    def markdown(self) -> str:
        """A block of its own."""
        lines = [["", *self.columns], *([name, *values] for name, values in self.rows.items())]
        below = "\n\n".join([f"_Source: {self.source}_", *self.notes])
        return "\n".join([f"#### As published: {self.title}", "", *markdown_grid(lines), "", below, ""])


def read_published(name: str) -> PublishedTable:
    """``configs/published/<name>.yaml``.

    Raises:
        TalkgenError: there is no such file.
    """
    file: Path = config_folder() / "published" / f"{name}.yaml"
    if not file.is_file():
        raise TalkgenError(f"published={name}: there are {', '.join(options('published'))}")
    node = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(node, dict)
    rows = {str(row): [str(value) for value in values] for row, values in node["rows"].items()}
    return PublishedTable(
        node["title"], node["source"], list(node["columns"]), rows, list(node.get("notes", []))
    )
