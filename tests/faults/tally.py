"""What became of what was tried."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one kind of fault.

    Attributes:
        part: what was done to what.
        tried: how often.
        survived: right results came of it.
        refused: a clear message came of it, and nothing was lost.
        failures: a sentence for each time that neither did.
        note: what a reader of the table should know.
    """

    part: str
    tried: int = 0
    survived: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def failed(self) -> int:
        """How often something was lost."""
        return len(self.failures)

    def survive(self, times: int = 1) -> None:
        """Right results."""
        self.tried += times
        self.survived += times

    def refuse(self, times: int = 1) -> None:
        """A clear message."""
        self.tried += times
        self.refused += times

    def fail(self, why: str) -> None:
        """A loss."""
        self.tried += 1
        self.failures.append(why)

    def row(self) -> str:
        """A line of a table in Markdown."""
        cells = (self.part, self.tried, self.survived, self.refused, self.failed, self.note)
        return "| " + " | ".join(map(str, cells)) + " |"


HEADER = "| what | tried | survived | refused | failed | |\n|---|---:|---:|---:|---:|---|"
