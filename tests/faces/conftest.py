"""Real frames and the models that run on them, loaded once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from talkgen.errors import MissingPackage, MissingWeights
from talkgen.faces.detection import FaceDetector, make_detector
from talkgen.faces.landmarks import Landmarker, make_landmarker
from talkgen.video.reader import read_frames


@pytest.fixture(scope="session")
def clips(shared: Path) -> list[Path]:
    return sorted((shared / "realclips" / "clips").glob("*.mp4"))


@pytest.fixture(scope="session")
def detector():
    """A detector by name, or skip, by name, where its package or weights are not here."""

    @cache
    def make(name: str) -> FaceDetector:
        try:
            return make_detector(name)
        except (MissingWeights, MissingPackage) as missing:
            pytest.skip(f"{name}: {missing}")

    return make


@pytest.fixture(scope="session")
def landmarker():
    @cache
    def make(name: str) -> Landmarker:
        try:
            return make_landmarker(name)
        except (MissingWeights, MissingPackage) as missing:
            pytest.skip(f"{name}: {missing}")

    return make


@pytest.fixture(scope="session")
def portraits(clips: list[Path]) -> dict[str, np.ndarray]:
    """One frame of every clip."""
    return {clip.stem: next(read_frames(clip, start_seconds=1.0)) for clip in clips}
