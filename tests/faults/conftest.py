"""Processes to disturb, and what they work with, for all tests of faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import write_base
from nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """One process that has everything imported."""
    with Nursery() as opened:
        yield opened


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, films and an untrained method."""
    folder = tmp_path_factory.mktemp("faults") / "base"
    write_base(folder)
    return folder
