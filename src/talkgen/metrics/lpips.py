"""LPIPS as columns: of frames, and of how they change (Zhang et al. 2018; tLP of Chu et al. 2020)."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from talkgen.data.windows import as_model
from talkgen.losses.perceptual import LPIPS as Network
from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage, Region
from talkgen.metrics.frame_pairs import FramePairs
from talkgen.metrics.required_weights import NeedsWeights, weight_digests
from talkgen.metrics.shared_features import SharedFeatures, expert_device, named

Net = Literal["alex", "vgg"]

BATCH_FRAMES = 8
"""Pairs that the network sees at a time."""
LEAST_PX = 32
"""Smaller pictures do not reach the network's last layers."""


@lru_cache(maxsize=2)
def _network(net: Net) -> Network:
    return Network(net).to(expert_device())


def lpips(generated: Tensor, ground_truth: Tensor, net: Net = "alex") -> Tensor:
    """Distance of each pair: uint8 RGB (t, h, w, 3) twice → float64 (t,)."""
    return _distances(net)(generated, ground_truth)


@lru_cache(maxsize=2)
def _distances(net: Net) -> SharedFeatures:
    network = _network(net)

    def distances(generated: Tensor, ground_truth: Tensor) -> Tensor:
        pairs = zip(generated.split(BATCH_FRAMES), ground_truth.split(BATCH_FRAMES), strict=True)
        return torch.cat([network(_scaled(x), _scaled(y)) for x, y in pairs]).double()

    return SharedFeatures(distances, name=named(f"lpips {net}", weight_digests([f"lpips_{net}"])))


def _scaled(frames: Tensor) -> Tensor:
    """To [-1, 1]: with [0, 1] every value would be two to four times too small, and nobody would notice."""
    return as_model(frames.to(expert_device()))


class LPIPS(ClipMetric, NeedsWeights):
    """LPIPS 0.1 of each frame.

    Args:
        net: ``"alex"``, which tables use, or ``"vgg"``; their values do not compare.
        region: ``"full"`` frame, or the smallest square of at least 32 pixels around the ``"mouth"``: a full
            frame whose background is pasted hides what the model did.
    """

    higher_is_better = False
    digits = 4

    def __init__(self, net: Net = "alex", region: Region = "full") -> None:
        super().__init__()
        if net not in ("alex", "vgg"):
            raise ValueError(f"LPIPS has the nets alex and vgg, not {net!r}")
        if region not in ("full", "mouth"):
            raise ValueError("LPIPS has the regions full and mouth")
        self.net: Net = net
        self.region: Region = region
        self.weight_names = (f"lpips_{net}",)
        self.needs = frozenset({"truth"} | ({"mouth"} if region == "mouth" else set()))
        self.column = f"LPIPS[{net}]" if region == "full" else f"LPIPS[{net},mouth]"

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing without weights."""
        if self.lacking is None:
            super().update(footage)

    def frame_values(self, footage: Footage) -> Tensor:
        """LPIPS of each frame; NaN where there is no mouth."""
        if self.region == "full":
            return lpips(footage.generated, footage.ground_truth, self.net)
        mask = footage.mask("mouth")
        assert mask is not None  # by ``needs``
        values = torch.full((footage.frames,), torch.nan, dtype=torch.float64)
        for t, inside in enumerate(mask):
            if inside.any():
                cut = tuple(_reaching(inside.any(axis)) for axis in (1, 0))
                pair = footage.generated[t][cut][None], footage.ground_truth[t][cut][None]
                values[t] = lpips(*pair, self.net)[0]
        return values


def _reaching(inside: Tensor) -> slice:
    """First to last True, widened to 32 entries where the side has as many."""
    places = inside.nonzero()[:, 0]
    first, end = int(places[0]), int(places[-1]) + 1
    first = max(min(first, (first + end - LEAST_PX) // 2), 0)
    end = min(max(end, first + LEAST_PX), len(inside))
    return slice(max(min(first, end - LEAST_PX), 0), end)


class TLPIPS(FramePairs, NeedsWeights):
    """100 × |LPIPS(true t, t+1) − LPIPS(generated t, t+1)|: does the change between frames look right?

    Args:
        net: see :class:`LPIPS`.
    """

    higher_is_better = False
    needs = frozenset({"truth"})

    def __init__(self, net: Net = "alex") -> None:
        super().__init__()
        self.net: Net = net
        self.weight_names = (f"lpips_{net}",)
        self.column = f"tLPIPS×100[{net}]"

    def update(self, footage: Footage) -> None:
        """Add a piece of a clip; nothing without weights."""
        if self.lacking is None:
            super().update(footage)

    def pair_values(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """One value a pair."""
        changes = [lpips(video[1:], video[:-1], self.net) for video in (generated, ground_truth)]
        return 100 * (changes[0] - changes[1]).abs()
