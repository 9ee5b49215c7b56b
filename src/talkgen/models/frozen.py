"""Networks that are used but not trained: lip-sync experts, recognisers, perceptual nets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Frozen(nn.Module):
    """A network that stays as it is, whatever happens around it.

        expert = Frozen(SyncNet(...))
        loss = 1 - cosine(expert(mel, face))  # the gradient reaches ``face``, no weight of the expert moves

    * Its parameters take no gradient; its inputs do.
    * It stays in eval mode through ``train()``, so that statistics of batch norm and dropout cannot move.
    * It moves between devices and dtypes with the module that holds it.
    * It is not part of the holder's ``parameters()``, ``buffers()`` or ``state_dict()``: optimisers, DDP,
      averaging of weights and checkpoints never see it, and a checkpoint loads strictly without it. The one
      who builds the system fills it from its own file each time.

    Args:
        module: the network. It is changed in place (eval, no gradients), not copied.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        # In a tuple, so that nn.Module does not register it: that is what keeps it out of state_dict().
        self._held = (module.eval().requires_grad_(False),)
        self.training = False

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        return self._held[0]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives."""
        return self.module(*args, **kwargs)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in eval mode."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Frozen:
        """Stay without gradients."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        """Move the network along (``to``, ``cuda``, ``half``, ``share_memory`` …)."""
        super()._apply(fn, recurse)
        self.module._apply(fn, recurse)
        return self

    def extra_repr(self) -> str:
        """Name what is inside."""
        return type(self.module).__name__
