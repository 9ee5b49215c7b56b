"""Weights of loss terms, one class a system. A misspelt name is refused by the constructor."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


class _NonNegative:
    """Refuse weights that are negative or no numbers."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise ValueError(f"{type(self).__name__}.{field.name} must be a number ≥ 0, not {value!r}")


@dataclass(frozen=True)
class VQGANWeights(_NonNegative):
    """SwapTalk's first stage. Its paper gives no weights; these are those of the code nearest to it.

    Args:
        l1: mean absolute difference of pixels (taming-transformers: 1).
        perceptual: LPIPS (taming-transformers: 1).
        codebook: the quantiser's loss (taming-transformers: 1).
        adversarial: the generator's adversarial term (taming-transformers: 0.8 of the adaptive weight).
        identity: 1 − cos of identity embeddings (RestoreFormer's stage 1: 1 to 3).
    """

    l1: float = 1.0
    perceptual: float = 1.0
    codebook: float = 1.0
    adversarial: float = 0.8
    identity: float = 1.0
