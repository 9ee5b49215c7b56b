"""Fréchet and kernel inception distance: does the set of generated frames look like the set of true ones?"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from talkgen.metrics.feature_sets import FeatureSets
from talkgen.metrics.footage import Footage
from talkgen.metrics.frechet import frechet_distance, kernel_distance
from talkgen.metrics.required_weights import weight_digests
from talkgen.metrics.shared_features import SharedFeatures, expert_device, named
from talkgen.models.experts.fid_inception import (
    FIDInception,
    Resize,
    available_name,
    load_fid_inception,
    network_input,
)

BATCH_FRAMES = 16
"""Frames that the network sees at a time."""


@lru_cache(maxsize=1)
def _network(name: str) -> FIDInception:
    return load_fid_inception(name)


@lru_cache
def inception_features(name: str, resize: Resize) -> SharedFeatures:
    """uint8 frames (t, h, w, 3) → (t, 2048); one network serves all metrics of a process.

    Args:
        name: of the registry.
        resize: as which program shrinks or enlarges frames to 299 pixels.
    """
    device = expert_device()
    network = _network(name).to(device)

    def features(frames: Tensor) -> Tensor:
        parts = frames.split(BATCH_FRAMES)
        return torch.cat([network(network_input(part.to(device), resize)) for part in parts])

    return SharedFeatures(features, name=named(f"inception {resize}", weight_digests([name])))


class _InceptionDistance(FeatureSets):
    """Keeps the Inception features of every ``every``-th frame of each piece.

    Args:
        resize: ``"pytorch-fid"``, ``"clean-fid"`` or ``"torch-fidelity"`` (also torchmetrics).
        every: 1 takes all frames; neighbours resemble each other, so that 5 costs a fifth and loses little.
    """

    name: ClassVar[str]

    def __init__(self, resize: Resize = "pytorch-fid", every: int = 1) -> None:
        super().__init__()
        if resize not in ("pytorch-fid", "clean-fid", "torch-fidelity"):
            raise ValueError(f"resize is pytorch-fid, clean-fid or torch-fidelity, not {resize!r}")
        if every < 1:
            raise ValueError(f"every is at least 1, not {every}")
        self.resize: Resize = resize
        self.every = every
        self.column = f"{self.name}[{resize}{f',every {every}' if every > 1 else ''}]"

    @property
    def weight_names(self) -> tuple[str]:  # type: ignore[override]
        """One of the two files that hold the same weights."""
        return (available_name(),)

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip."""
        if self.lacking is None:
            features = inception_features(self.weight_names[0], self.resize)
            self.record(footage, features, slice(None, None, self.every))


class FID(_InceptionDistance):
    """Fréchet inception distance over all frames of all clips (Heusel et al. 2017).

    It falls with the number of frames and, more so, of clips: compare only tables with the same number.
    """

    name = "FID"

    def distance(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """See :func:`frechet_distance`."""
        return frechet_distance(generated, ground_truth)


class KID(_InceptionDistance):
    """Kernel inception distance over all frames of all clips × 1000 (Bińkowski et al. 2018).

    One value over the full sets, where torch-fidelity averages over random subsets of 1000; the expectation
    is the same. Unbiased, so that it suits a few hundred frames, for which FID is mostly bias.
    """

    name = "KID×1000"

    def distance(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """See :func:`kernel_distance`."""
        return 1000 * kernel_distance(generated, ground_truth)
