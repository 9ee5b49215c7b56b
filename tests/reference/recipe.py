"""Weights and inputs that are the same bits on every machine, made from names and seeds alone.

Reference numbers beside this file were made by published networks whose every tensor was drawn by ``tensor``;
a network with the same keys filled by ``fill`` is therefore the same network, and no weight file is needed.
numpy's legacy ``RandomState`` is frozen bit for bit across numpy versions, which is why it is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


def tensor(key: str, shape: Sequence[int], seed: int = 0, gain: float = 1.0) -> np.ndarray:
    """The recipe's array for one key of a state dict: the generator is seeded with crc32(key) xor seed.

    Counters are 0; running means N(0, 0.1²); running variances 1 + 0.2·|N(0, 1)|; vectors called ``weight``
    (norm scales) N(1, 0.1²); other vectors N(0, 0.1²); everything else N(0, gain²·2 / fan-in).
    """
    shape = tuple(shape)
    kind = key.split(".")[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    draw = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF).randn(*shape)
    if kind == "running_var":
        values = 1.0 + 0.2 * np.abs(draw)
    elif kind == "running_mean":
        values = 0.1 * draw
    elif len(shape) <= 1:
        values = 1.0 + 0.1 * draw if kind == "weight" else 0.1 * draw
    else:
        values = draw * np.sqrt(2.0 / int(np.prod(shape[1:]))) * gain
    return np.asarray(values).astype(np.float32)


def state_dict(keys: Sequence[Sequence], seed: int = 0, gain: float = 1.0) -> dict[str, torch.Tensor]:
    """A state dict for a list of (key, shape, …), as the published code's key lists are kept."""
    return {key: torch.from_numpy(tensor(key, shape, seed, gain)) for key, shape, *_ in keys}


def fill(module: nn.Module, seed: int = 0, gain: float = 1.0) -> nn.Module:
    """Give every tensor of a module the recipe's values, and put it into eval mode."""
    own = module.state_dict()
    module.load_state_dict(
        {
            key: torch.from_numpy(tensor(key, value.shape, seed, gain)).to(value.dtype)
            for key, value in own.items()
        }
    )
    return module.eval()


def uint8_noise(shape: Sequence[int], seed: int) -> np.ndarray:
    """Uniform bytes."""
    return np.random.RandomState(seed).randint(0, 256, size=tuple(shape)).astype(np.uint8)
