from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from talkgen.errors import MissingWeights, TalkgenError
from talkgen.faces.alignment import ARCFACE_TEMPLATE
from talkgen.metrics.csim import CSIM
from talkgen.metrics.footage import Footage
from talkgen.metrics.identity_consistency import IdentityConsistency
from talkgen.metrics.identity_retrieval import IdentityRetrieval
from talkgen.metrics.identity_source import Gallery, IdentitySource, open_identity_source, warps_of


def footage(vectors: torch.Tensor, gallery: torch.Tensor | None = None, wanted: int | None = 0) -> Footage:
    frames = torch.zeros(len(vectors), 8, 8, 3, dtype=torch.uint8)
    return Footage(0, frames, frames, identities=vectors, gallery=gallery, wanted=wanted)


GALLERY = torch.eye(3)
VECTORS = F.normalize(
    torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 1.0]]), dim=1
)


def test_retrieval_and_csim_by_hand() -> None:
    top1, csim = IdentityRetrieval("net"), CSIM("net")
    for metric in (top1, csim):
        metric.update(footage(VECTORS, GALLERY))
    assert float(top1.compute()) == 50  # frames 0 and 2
    assert float(csim.compute()) == pytest.approx(float(VECTORS[:, 0].mean()))
    assert (top1.column, csim.column) == ("ID top-1[%,net]", "CSIM[net]")


def test_who_is_not_in_the_gallery_cannot_be_retrieved() -> None:
    top1 = IdentityRetrieval("net")
    top1.update(footage(VECTORS, GALLERY, wanted=None))
    top1.update(footage(VECTORS, None))
    assert top1.per_clip() == {}
    gallery = Gallery(["anna", "ben"], torch.eye(2))
    assert gallery.place("ben") == 1 and gallery.place("carl") is None


def test_a_frame_without_a_face_counts_neither_way() -> None:
    vectors = VECTORS.clone()
    vectors[1] = torch.nan
    top1 = IdentityRetrieval("net")
    top1.update(footage(vectors, GALLERY))
    assert float(top1.compute()) == pytest.approx(100 * 2 / 3)


def test_readings_of_consistency_agree_with_loops() -> None:
    count = len(VECTORS)
    cos = (VECTORS @ VECTORS.T).double()
    expected = {
        "pairs": float(np.mean([cos[i, j] for i in range(count) for j in range(count) if i != j])),
        "adjacent": float(np.mean([cos[i, i + 1] for i in range(count - 1)])),
        "first": float(cos[0, 1:].mean()),
        "source": float(VECTORS[:, 0].mean()),
    }
    for pairing, value in expected.items():
        metric = IdentityConsistency(pairing, "net")  # type: ignore[arg-type]
        metric.update(footage(VECTORS[:1], GALLERY))  # in two pieces
        metric.update(footage(VECTORS[1:], GALLERY))
        assert float(metric.compute()) == pytest.approx(100 * value, abs=1e-4), pairing
    one = IdentityConsistency("pairs", "net")
    one.update(footage(VECTORS[:1], GALLERY))
    assert math.isnan(one.per_clip()[0])
    with pytest.raises(ValueError, match="pairing is"):
        IdentityConsistency("all", "net")  # type: ignore[arg-type]


def test_faces_are_aligned_before_they_are_recognised() -> None:
    """Landmarks twice as large, in a picture twice as large: the recogniser sees the same face."""
    small = np.random.default_rng(0).integers(0, 255, (28, 28, 3), np.uint8)
    picture = np.kron(small, np.ones((8, 8, 1), np.uint8))  # 224 pixels, blocks of 8
    points = np.zeros((1, 68, 2), np.float32)
    for part, place in zip((slice(36, 42), slice(42, 48), 30, 48, 54), ARCFACE_TEMPLATE, strict=True):
        points[:, part] = (place + 0.5) * 2 - 0.5
    seen = []

    def recogniser(faces: np.ndarray) -> torch.Tensor:
        seen.append(faces)
        return torch.ones(len(faces), 4)

    source = IdentitySource(recogniser, "net")
    warps = warps_of(torch.from_numpy(points))
    vectors = source(
        torch.from_numpy(picture)[None].repeat(2, 1, 1, 1), np.concatenate([warps, warps * np.nan])
    )
    assert vectors[0].tolist() == pytest.approx([0.5] * 4) and bool(vectors[1].isnan().all())
    (face,) = seen[0]
    assert np.abs(face[1::4, 1::4].astype(int) - small).max() <= 2  # the middle of every block


def test_missing_weights_are_a_reason_and_unknown_names_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TALKGEN_WEIGHTS", str(tmp_path))
    assert isinstance(open_identity_source("edgeface_s"), MissingWeights)
    with pytest.raises(TalkgenError, match="there are edgeface_s"):
        open_identity_source("edgeface")
