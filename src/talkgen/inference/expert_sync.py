"""Sync columns by an expert that talkgen trains itself, so that every table has a sync score.

The published SyncNet's weights cannot be had everywhere. This expert is trained by
``experiment=evaluation_sync_expert``, and no method is trained against it. Distances, confidence and offset
are SyncNet's (``talkgen.metrics.sync_distance``), with three differences: embeddings have length 1; a shift
counts only windows that have a partner, so that scores do not depend on the length of a clip; and the best
shift is looked for near 0. As there, distances are averaged over all windows of a clip before the least is
taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.configuration import RunFolder
from talkgen.errors import TalkgenError
from talkgen.faces.alignment import crop_matrices
from talkgen.faces.crop import CROPS, CropSettings, crop_frame, transform_points
from talkgen.inference.av_offset import AVOffset, load_av_offset
from talkgen.metrics.footage import Footage
from talkgen.metrics.shared_features import SharedFeatures
from talkgen.metrics.sync_distance import SHIFTS, SyncScore, shifted_distances, sync_score
from talkgen.metrics.sync_metric import Reading, SyncMetric, generated_points

EXPERIMENT = "evaluation_sync_expert"
NEAR = 5
"""Shifts to both sides among which the least distance is looked for. Among more shifts a wrong sound finds
one that fits by chance (docs/metrics.md)."""
OFFSET_NEAR = 8
"""The same for the offset. Clips of published corpora are off by up to 4 frames, and an offset has to be seen
beyond that."""
LEAST_WINDOWS = 5
"""A clip with fewer windows has no score."""


def follow_faces(
    frames: NDArray[np.uint8], landmarks: NDArray[np.floating], settings: CropSettings
) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """Frames (n, h, w, 3) and landmarks (n, 68, 2), NaN where a face was missed → crops and their landmarks.

    Missed landmarks lie between their neighbours. None where all were missed.
    """
    known = np.isfinite(landmarks).all((1, 2))
    if not known.any():
        return None
    matrices = crop_matrices(landmarks, settings)
    places = np.arange(len(frames))
    flat = landmarks.reshape(len(frames), -1)
    filled = np.stack([np.interp(places, places[known], column[known]) for column in flat.T], 1)
    pairs = zip(frames, matrices, strict=True)
    crops = np.stack([crop_frame(frame, matrix, settings.size) for frame, matrix in pairs])
    return crops, transform_points(matrices, filled.reshape(landmarks.shape))


def expert_vectors(
    expert: AVOffset,
    frames: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    waveform: NDArray[np.float32],
) -> Tensor:
    """(2, windows, d): of the lips and the sound of every window of a clip at 25 fps; (2, 0, 1) for none."""
    settings = CropSettings(
        expert.trained.image_size(), CROPS["close"].scale, CROPS["close"].eye_line, rotate=False
    )
    seen = follow_faces(frames, landmarks, settings)
    if seen is None:
        return torch.empty(2, 0, 1)
    audio, face = expert.embed(seen[0], waveform, seen[1])
    return torch.stack([face, audio])


def score_of(vectors: Tensor, near: int = NEAR, offset_near: int = OFFSET_NEAR) -> SyncScore:
    """Confidence: median distance over all shifts less the least among the near ones; and the offset."""
    lip, audio = vectors
    if len(lip) < LEAST_WINDOWS:
        return SyncScore(float("nan"), float("nan"), 0)
    distances = shifted_distances(lip, audio, ends="inside")
    inner, wider = (
        sync_score(distances[:, SHIFTS - reach : SHIFTS + reach + 1]) for reach in (near, offset_near)
    )
    means = distances.nanmean(0)
    median = float(means[means.isfinite()].median())
    return SyncScore(median - inner.distance, inner.distance, wider.offset)


@lru_cache(maxsize=2)
def _shared_vectors(run: Path) -> SharedFeatures:
    expert = load_av_offset(run)

    def vectors(frames: Tensor, landmarks: Tensor, waveform: Tensor) -> Tensor:
        return expert_vectors(expert, frames.numpy(), landmarks.numpy(), waveform.numpy())

    return SharedFeatures(vectors, name=f"{EXPERIMENT} {expert.sha256}")


@lru_cache(maxsize=2)
def _digests(run: Path) -> dict[str, str]:
    """What the expert learned from, and the hash of its checkpoint, for the protocol line."""
    folder = RunFolder(run)
    facts = json.loads(folder.facts.read_text()) if folder.facts.is_file() else {}
    steps = facts.get("finished_batches", "?")
    manifest = str(facts.get("manifest", "unknown"))[:12]
    name = f"{EXPERIMENT} ({steps} batches of the corpus with manifest {manifest})"
    return {name: load_av_offset(run).sha256}


class ExpertSync(SyncMetric):
    """Columns by a run of ``experiment=evaluation_sync_expert``; see ``score_of``.

    Distances lie between 0 and 2; √2 is that of strangers.

    Args:
        reading: ``"confidence"``, ``"distance"`` or ``"offset"``.
        run: folder of the expert; None where there is none.
    """

    names: ClassVar[Mapping[Reading, str]] = {
        "confidence": "sync confidence",
        "distance": "sync distance",
        "offset": "abs sync offset",
    }
    needs = frozenset({"sound", "landmarks"})

    def __init__(self, reading: Reading, run: str | Path | None) -> None:
        super().__init__(reading, "talkgen's expert")
        self.run = None if run is None else Path(run)

    @property
    def lacking(self) -> TalkgenError | None:
        """Why there can be no number; None if there can."""
        if self.run is None:
            return TalkgenError(
                f"no sync expert for evaluation; train one with: python train.py experiment={EXPERIMENT}"
            )
        return None

    @property
    def digests(self) -> dict[str, str]:
        """The expert's training data → sha256 of its checkpoint."""
        return {} if self.run is None else _digests(self.run)

    def score(self, frames: Tensor, sound: Tensor, pieces: Sequence[Footage]) -> SyncScore:
        """Of one clip."""
        assert self.run is not None  # by ``update``
        return score_of(_shared_vectors(self.run)(frames, generated_points(pieces), sound))
