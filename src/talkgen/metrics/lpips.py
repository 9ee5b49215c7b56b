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
from talkgen.metrics.shared_features import SharedFeatures, content_hash, expert_device, named

Net = Literal["alex", "vgg"]

BATCH_FRAMES = 8
"""Pairs that the network sees at a time."""
KEPT_BYTES = 2**29
"""Activations of one piece's truth that are kept for the next row."""
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


class _PieceDistances:
    """LPIPS of frames against their truth, and of neighbouring frames, with one look at every frame.

    The activations of the last truth are kept where they are not too large: every row of a table has the
    same.

    Args:
        net: see :class:`LPIPS`.
    """

    def __init__(self, net: Net) -> None:
        self.network = _network(net)
        self._truth: tuple[bytes, list[list[Tensor]]] = b"", []

    def __call__(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """uint8 RGB (t, h, w, 3) twice → float64 (3, t): of the pairs; of each generated frame and the one
        before it; the same of the true ones. Nothing is before the first, which has NaN.
        """
        key = content_hash(ground_truth)
        same = generated is ground_truth or content_hash(generated) == key
        known = self._truth[1] if self._truth[0] == key else []
        seen: list[list[Tensor]] = []
        values: list[Tensor] = []
        last: tuple[list[Tensor], list[Tensor]] | None = None
        pairs = zip(generated.split(BATCH_FRAMES), ground_truth.split(BATCH_FRAMES), strict=True)
        for number, (x, y) in enumerate(pairs):
            of_truth = known[number] if known else self.network.activations(_scaled(y))
            made = of_truth if same else self.network.activations(_scaled(x))
            if _bytes(of_truth) * (len(ground_truth) / len(y)) <= KEPT_BYTES:
                seen.append(of_truth)
            own = self._compare(made, of_truth) if not same else torch.zeros(len(x), dtype=torch.float64)
            ours = self._steps(made, None if last is None else last[0])
            theirs = ours if same else self._steps(of_truth, None if last is None else last[1])
            values.append(torch.stack([own, ours, theirs]))
            last = [layer[-1:] for layer in made], [layer[-1:] for layer in of_truth]
        self._truth = (key, seen) if seen else (b"", [])
        return torch.cat(values, 1)

    def _compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        return self.network.compare(first, second).sum(1).double().cpu()

    def _steps(self, layers: list[Tensor], last: list[Tensor] | None) -> Tensor:
        """Of every frame of a batch and the one before it."""
        if last is None:
            steps = self._compare([x[1:] for x in layers], [x[:-1] for x in layers])
            return torch.cat([torch.full((1,), torch.nan, dtype=torch.float64), steps])
        return self._compare(layers, [torch.cat([a, x[:-1]]) for a, x in zip(last, layers, strict=True)])


def _bytes(layers: list[Tensor]) -> int:
    return sum(layer.numel() * layer.element_size() for layer in layers)


@lru_cache(maxsize=2)
def piece_distances(net: Net) -> SharedFeatures:
    """See ``_PieceDistances``; one network serves all metrics of a process."""
    name = named(f"lpips of pieces {net}", weight_digests([f"lpips_{net}"]))
    return SharedFeatures(_PieceDistances(net), name=name)


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
            return piece_distances(self.net)(footage.generated, footage.ground_truth)[0]
        mask = footage.mask("mouth")
        assert mask is not None  # by ``needs``
        values = torch.full((footage.frames,), torch.nan, dtype=torch.float64)
        for t, inside in enumerate(mask):
            if inside.any() and footage.generated is footage.ground_truth:
                values[t] = 0
            elif inside.any():
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
        if self.lacking is not None or not footage.has("truth"):
            return
        piece = footage.generated, footage.ground_truth
        _, ours, theirs = piece_distances(self.net)(*piece)
        changes = 100 * (ours - theirs).abs()[1:]
        if self._last is not None and self._clip == footage.clip:
            # Of the last frame of the piece before, and the first of this one.
            border = lpips(torch.cat([x[:1] for x in piece]), torch.cat(self._last), self.net)
            changes = torch.cat([100 * (border[:1] - border[1:]).abs(), changes])
        if len(changes):
            self.record(footage.clip, changes)
        self._clip, self._last = footage.clip, (piece[0][-1:].clone(), piece[1][-1:].clone())

    def pair_values(self, generated: Tensor, ground_truth: Tensor) -> Tensor:
        """One value a pair."""
        _, ours, theirs = piece_distances(self.net)(generated, ground_truth)
        return 100 * (ours - theirs).abs()[1:]
