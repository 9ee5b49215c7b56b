"""What metrics that look through pretrained networks say about the files they need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from talkgen import weights
from talkgen.download import file_sha256
from talkgen.errors import MissingWeights, TalkgenError


class NeedsWeights:
    """A metric that reads pretrained files. Without them it shows no number, and says what to fetch.

    Attributes:
        weight_names: of the registry.
    """

    weight_names: Sequence[str] = ()

    @property
    def lacking(self) -> TalkgenError | None:
        """Why there can be no number: the first missing file and the command that gets it; None if none."""
        for name in self.weight_names:
            try:
                weights.find(name)
            except MissingWeights as error:
                return error
        return None

    @property
    def digests(self) -> dict[str, str]:
        """Weight name → sha256 of the file, for the protocol line."""
        return weight_digests(self.weight_names)


def weight_digests(names: Sequence[str]) -> dict[str, str]:
    """Weight name → sha256 of the file, of those that are there; each file is read once a process."""
    return {name: _digest(weights.find(name)) for name in names if weights.available(name)}


@lru_cache
def _digest(file: Path) -> str:
    return file_sha256(file)
