"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
REFERENCE = Path(__file__).resolve().parent / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Numbers made by published implementations, kept with the tests."""
    return REFERENCE


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and parity vectors that lie beside the checkout (or at $TALKGEN_SHARED); else skip."""
    folder = Path(os.environ.get("TALKGEN_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "realclips").is_dir():
        pytest.skip(f"real data not found at {folder} (set TALKGEN_SHARED)")
    return folder
