"""Fréchet video distance: do short stretches of generated video move like true ones?"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from talkgen.metrics.feature_sets import FeatureSets
from talkgen.metrics.footage import Footage
from talkgen.metrics.frechet import frechet_distance
from talkgen.metrics.required_weights import weight_digests
from talkgen.metrics.shared_features import SharedFeatures, expert_device, named
from talkgen.models.experts.i3d import FRAMES, I3D, load_i3d, network_input

WEIGHTS = "fvd_i3d"


@lru_cache(maxsize=1)
def i3d_features() -> SharedFeatures:
    """uint8 frames of one stretch (16, h, w, 3) → (1, 400)."""
    device, layout = expert_device(), torch.channels_last_3d  # which saves a sixth of the time on a CPU
    network: I3D = load_i3d(WEIGHTS).to(device, memory_format=layout)  # type: ignore[call-overload]

    def features(frames: Tensor) -> Tensor:
        stretch = network_input(frames.to(device))[None].contiguous(memory_format=layout)
        return network(stretch)

    return SharedFeatures(features, name=named("i3d logits", weight_digests([WEIGHTS])))


class FVD(FeatureSets):
    """Fréchet distance of I3D's logits over stretches of 16 frames (Unterthiner et al. 2019).

    Frames are resized to 224 pixels bilinearly and scaled to [-1, 1], as the TensorFlow original and its
    ports do. Stretches follow each other without overlap; what is left at the end of a clip is not seen.
    Values of papers do not compare: none states frame rate, crop, stretches and number of videos together.
    Fewer than 400 stretches leave the covariances singular.

    Pieces of a clip must come in order.
    """

    digits = 1
    column = f"FVD[i3d-k400,{FRAMES} frames]"
    weight_names = (WEIGHTS,)

    def __init__(self) -> None:
        super().__init__()
        self._clip: int | None = None
        self._waiting: tuple[Tensor, Tensor] | None = None

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip."""
        if self.lacking is not None:
            return
        pair = footage.generated, footage.ground_truth
        if self._waiting is not None and self._clip == footage.clip:
            pair = torch.cat([self._waiting[0], pair[0]]), torch.cat([self._waiting[1], pair[1]])
        whole = len(pair[0]) // FRAMES * FRAMES
        features = i3d_features()
        for start in range(0, whole, FRAMES):
            stretch = slice(start, start + FRAMES)
            self.generated.append(features(pair[0][stretch]))
            self.ground_truth.append(features(pair[1][stretch]))
        self._clip, self._waiting = footage.clip, (pair[0][whole:].clone(), pair[1][whole:].clone())

    def reset(self) -> None:
        """Forget everything, the beginnings of a stretch too."""
        super().reset()
        self._clip = self._waiting = None

    def distance(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """See :func:`frechet_distance`."""
        return frechet_distance(generated, ground_truth)
