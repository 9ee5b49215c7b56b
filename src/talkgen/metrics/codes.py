"""How much of a codebook a model uses."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from talkgen.metrics.footage import Footage


class _CodeUse(Metric):
    """Histogram of one codebook's indices, clip by clip."""

    full_state_update = False
    higher_is_better = True
    needs: frozenset[str] = frozenset()  # footage without codes is left out
    digits = 0
    # More clips use more codes, so a resampled set of fewer different clips says nothing about the whole set.
    has_interval = False
    column: str
    histograms: list[Tensor]
    clips: list[Tensor]

    def __init__(self, codebook: str) -> None:
        super().__init__()
        self.codebook = codebook
        self.add_state("histograms", default=[], dist_reduce_fx="cat")
        self.add_state("clips", default=[], dist_reduce_fx="cat")

    def update(self, footage: Footage) -> None:
        """Count the codes of a piece of a clip; footage without this codebook is left out."""
        codes = footage.codes.get(self.codebook)
        if codes is not None:
            counts = torch.bincount(codes.indices.flatten(), minlength=codes.codebook_size)
            self.histograms.append(counts[None])
            self.clips.append(torch.tensor([footage.clip]))

    @abstractmethod
    def _value(self, histogram: Tensor) -> Tensor:
        """The number that a histogram (codebook_size,) comes to."""

    def _stacked(self) -> tuple[Tensor, Tensor]:
        states = (torch.cat(list(s)) if isinstance(s, list) else s for s in (self.clips, self.histograms))
        clips, histograms = states
        return clips, histograms

    def per_clip(self) -> dict[int, float]:
        """Clip number → value over its own codes."""
        if not len(self.clips):
            return {}
        clips, histograms = self._stacked()
        return {int(clip): float(self._value(histograms[clips == clip].sum(0))) for clip in clips.unique()}

    def compute(self) -> Tensor:
        """Value over the codes of all clips together; NaN without any."""
        if not len(self.clips):
            return torch.tensor(float("nan"), dtype=torch.float64)
        return self._value(self._stacked()[1].sum(0))


class ActiveCodes(_CodeUse):
    """Number of different codes that the evaluated frames use.

    Args:
        codebook: name of the codebook in :attr:`Footage.codes` (``"upper"`` or ``"lower"``).
    """

    def __init__(self, codebook: str) -> None:
        super().__init__(codebook)
        self.column = f"active codes[{codebook}]"

    def _value(self, histogram: Tensor) -> Tensor:
        return (histogram > 0).sum().double()


class CodePerplexity(_CodeUse):
    """exp of the entropy of the code frequencies: how many codes, used equally often, would be as varied.

    Args:
        codebook: name of the codebook in :attr:`Footage.codes` (``"upper"`` or ``"lower"``).
    """

    digits = 1

    def __init__(self, codebook: str) -> None:
        super().__init__(codebook)
        self.column = f"perplexity[{codebook}]"

    def _value(self, histogram: Tensor) -> Tensor:
        frequency = histogram.double() / histogram.sum()
        return torch.special.entr(frequency).sum().exp()
