"""Batch normalisation over the batch of all processes, on a CPU too, where torch has no ``SyncBatchNorm``."""

from __future__ import annotations

import torch
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from talkgen.global_batch import processes, sum_over_processes


class GlobalBatchNorm(_BatchNorm):
    """y = γ (x − μ) / √(σ² + ε) + β with μ and σ² of the samples of all processes, which have as many each.

    Two passes, so that the variance is not a difference of large numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, …)`` → the same shape."""
        if not self.training or processes() == 1:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = processes() * x.numel() // x.shape[1]
        mean = sum_over_processes(x.float().sum(axes)) / count
        centred = x.float() - mean.view(shape)
        variance = sum_over_processes(centred.square().sum(axes)) / count
        if self.running_mean is not None and self.running_var is not None:
            self._follow(mean.detach(), variance.detach() * count / max(count - 1, 1))
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""


class GlobalBatchNorms(LayerSync):
    """Plugin of a Trainer: batch norms of the system become global ones, with their parameters and names."""

    def __init__(self) -> None:
        self._kinds: dict[nn.Module, type[nn.Module]] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Change the class of every batch norm."""
        for module in model.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm | GlobalBatchNorm):
                self._kinds[module] = type(module)
                module.__class__ = GlobalBatchNorm
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give them their classes back."""
        for module, kind in self._kinds.items():
            module.__class__ = kind  # type: ignore[assignment]
        self._kinds.clear()
        return model
