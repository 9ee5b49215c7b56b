"""What systems with one automatic optimiser share: the bound of their gradients is their own setting."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule
from torch.optim import Optimizer


class ClippedSystem(LightningModule):
    """Clips the norm of all gradients by ``gradient_clip``, which a subclass sets; 0 does not clip."""

    gradient_clip: float

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip by this system's own bound."""
        if self.gradient_clip:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")
