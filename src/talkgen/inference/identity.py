"""Identity directions of frames, by a recogniser."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen import weights
from talkgen.data.windows import as_model
from talkgen.losses.identity import IdentityLoss
from talkgen.models.experts.arcface import load_arcface


@lru_cache(maxsize=1)
def _open(file: Path, device: str) -> IdentityLoss:
    return IdentityLoss(load_arcface(file)).to(device)


@dataclass(frozen=True)
class FrameIdentities:
    """Directions of the faces in frames.

    Attributes:
        file: of the recogniser.
        sha256: of that file.
        device: where it computes.
    """

    file: Path
    sha256: str
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8], identity_warp: NDArray[np.float32]) -> NDArray[np.float32]:
        """Crops ``(n, size, size, 3)``, RGB, and their matrices ``(n, 2, 3)`` → ``(n, dim)`` of length 1."""
        images = as_model(torch.from_numpy(frames).to(self.device))
        warps = torch.from_numpy(identity_warp).to(self.device)
        directions: NDArray[np.float32] = _open(self.file, self.device).embed(images, warps).cpu().numpy()
        return directions


def load_frame_identities(recogniser: str = "arcface_mbf", device: str = "auto") -> FrameIdentities:
    """The directions that a recogniser gives.

    Args:
        recogniser: see ``load_arcface``.
        device: where to compute; ``auto`` takes a GPU where there is one.

    Raises:
        MissingWeights: its file is not on this machine.
    """
    file = weights.find(recogniser) if recogniser in weights.REGISTRY else Path(recogniser)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return FrameIdentities(file.absolute(), hashlib.sha256(file.read_bytes()).hexdigest(), device)
