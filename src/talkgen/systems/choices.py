"""Comparisons that a validation decided rightly or not, of several kinds."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor


class Choices:
    """Collected batch by batch; logged as the share of right ones when a validation ends."""

    def __init__(self) -> None:
        self._right: dict[str, list[Tensor]] = {}

    def note(self, name: str, right: Tensor) -> None:
        """Choices of this name, one element each."""
        self._right.setdefault(name, []).append(right)

    def log(self, system: LightningModule) -> None:
        """``val/<name>`` of every name of which there were any; then forget them."""
        for name, parts in self._right.items():
            right = torch.cat(parts)
            if len(right):
                system.log(f"val/{name}", right.mean(), prog_bar=name == "accuracy", sync_dist=True)
        self._right.clear()
