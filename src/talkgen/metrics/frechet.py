"""Distances between two sets of feature vectors: Fréchet's, of their Gaussians, and the kernel distance."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    """Fréchet distance of the Gaussians fitted to two sets (Heusel et al. 2017, equation 6), float64.

    ‖μx − μy‖² + Tr Σx + Tr Σy − 2 Tr (Σx Σy)^½ with Σ = AᵀA, A the centred features / √(n − 1).
    Tr (Σx Σy)^½ is the sum of the singular values of A Bᵀ. This is exact also where covariances are singular
    (fewer vectors than dimensions), and needs neither a matrix root nor a small number on the diagonal.

    Args:
        x: (n, d), n at least 2.
        y: (m, d), m at least 2.

    Returns:
        A scalar; NaN for fewer than two vectors.
    """
    if min(len(x), len(y)) < 2:
        return torch.tensor(float("nan"), dtype=torch.float64)
    x, y = x.double(), y.double()
    a, b = (_factor(features) for features in (x, y))
    root = torch.linalg.svdvals(a @ b.T).sum()
    shift = (x.mean(0) - y.mean(0)).square().sum()
    return shift + a.square().sum() + b.square().sum() - 2 * root


def _factor(features: Tensor) -> Tensor:
    """A with AᵀA the covariance and at most d rows: the triangle of A's QR where there are more."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if len(features) > features.shape[1] else centred


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018).

    Its expectation does not depend on the number of vectors, unlike that of the Fréchet distance. It can be a
    little below 0 for sets of one distribution.

    Args:
        x: (n, d), n at least 2.
        y: (m, d), m at least 2.

    Returns:
        A float64 scalar; NaN for fewer than two vectors.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        return torch.tensor(float("nan"), dtype=torch.float64)
    within_x, within_y, between = (_kernel_sum(a, b) for a, b in ((x, x), (y, y), (x, y)))
    within_x = within_x - _kernel_diagonal(x)
    within_y = within_y - _kernel_diagonal(y)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * between / (n * m)


def _kernel_sum(x: Tensor, y: Tensor, block: int = 1024) -> Tensor:
    """Σ k(x_i, y_j) over all pairs, in blocks, so that memory stays constant."""
    y = y.double()
    parts = [(part.double() @ y.T / x.shape[1] + 1).pow(3).sum() for part in x.split(block)]
    return torch.stack(parts).sum()


def _kernel_diagonal(x: Tensor) -> Tensor:
    return (x.double().square().sum(1) / x.shape[1] + 1).pow(3).sum()
