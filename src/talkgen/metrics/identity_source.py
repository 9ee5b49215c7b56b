"""Identity vectors of whatever pictures a metric compares, all by one recogniser, and the gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen import weights
from talkgen.data.windows import as_model
from talkgen.download import file_sha256
from talkgen.errors import MissingPackage, MissingWeights, TalkgenError
from talkgen.faces.alignment import ARCFACE_SIZE, identity_warp
from talkgen.faces.crop import warp
from talkgen.faces.ibug import keypoints_from_landmarks
from talkgen.metrics.shared_features import SharedFeatures, named
from talkgen.models.experts.arcface import load_arcface

RECOGNISERS = ("edgeface_s", "arcface_mbf", "arcface_r50", "cosface_sphere20")

Recogniser = Callable[[NDArray[np.uint8]], Tensor]
"""Faces uint8 RGB (n, 112, 112, 3), aligned to the ArcFace template → vectors (n, d)."""


class IdentitySource:
    """Frames and landmarks → unit vectors.

    Args:
        network: the recogniser.
        name: of it.
        weights: weight name → sha256 of the file, for the protocol line.
        batch_frames: faces that it sees at a time.
        every: look at every so many frames of a clip only; the others' vectors are NaN.
    """

    def __init__(
        self,
        network: Recogniser,
        name: str = "",
        weights: dict[str, str] | None = None,
        batch_frames: int = 32,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is a number of frames, not {every}")
        self.every = every
        self.network = network
        self.name = name
        self.weights = weights or {}
        self.batch_frames = batch_frames
        self.dim = 1  # known once the network has seen a face
        kept = named(f"identity {name} every {every}", self.weights) if name else ""
        self._shared = SharedFeatures(self._vectors, name=kept)

    def __call__(self, frames: Tensor, warps: NDArray[np.float32], start: int = 0) -> Tensor:
        """uint8 RGB (t, h, w, 3) and matrices (t, 2, 3) to the ArcFace template → (t, d); NaN for NaN.

        ``start`` is the place of the first frame in its clip.
        """
        return self._shared(frames, torch.from_numpy(warps), torch.tensor(start % self.every))

    def _vectors(self, frames: Tensor, matrices: Tensor, start: Tensor) -> Tensor:
        warps = matrices.numpy()
        known = np.isfinite(warps).all((1, 2)) & ((np.arange(len(frames)) + int(start)) % self.every == 0)
        faces = [
            warp(frame, matrix, ARCFACE_SIZE, ARCFACE_SIZE)
            for frame, matrix in zip(frames.numpy()[known], warps[known], strict=True)
        ]
        if not faces:
            return torch.full((len(frames), self.dim), torch.nan)
        with torch.inference_mode():
            parts = [
                self.network(np.stack(faces[first : first + self.batch_frames])).cpu()
                for first in range(0, len(faces), self.batch_frames)
            ]
        found = torch.nn.functional.normalize(torch.cat(parts).float(), dim=1)
        self.dim = found.shape[1]
        vectors = torch.full((len(frames), found.shape[1]), torch.nan)
        vectors[torch.from_numpy(known)] = found
        return vectors


@dataclass(frozen=True)
class Gallery:
    """Pictures of known people, one each, as unit vectors.

    Attributes:
        people: their names.
        vectors: (people, d).
    """

    people: Sequence[str]
    vectors: Tensor

    def place(self, person: str) -> int | None:
        """Row of a person, None for a stranger."""
        return self.people.index(person) if person in self.people else None


def warps_of(landmarks: Tensor) -> NDArray[np.float32]:
    """Landmarks (t, 68, 2) → matrices (t, 2, 3) to the ArcFace template; NaN where a face was missed."""
    with np.errstate(invalid="ignore"):
        return identity_warp(keypoints_from_landmarks(landmarks.numpy()))


def open_identity_source(name: str, every: int = 1) -> IdentitySource | MissingWeights | MissingPackage:
    """A recogniser by name, or the reason why it is not there, which says how to cure it; see
    ``IdentitySource`` for ``every``.

    Raises:
        TalkgenError: there is no such recogniser.
    """
    if name not in RECOGNISERS:
        raise TalkgenError(f"no recogniser {name!r}; there are {', '.join(RECOGNISERS)}")
    try:
        network = _arcface_network(name)
    except (MissingWeights, MissingPackage) as error:
        return error
    return IdentitySource(network, name, {name: file_sha256(weights.find(name))}, every=every)


def _arcface_network(name: str) -> Recogniser:
    network = load_arcface(name)

    def embed(faces: NDArray[np.uint8]) -> Tensor:
        return network(as_model(torch.from_numpy(faces)))

    return embed
