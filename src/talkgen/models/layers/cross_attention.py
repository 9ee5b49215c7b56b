"""Multi-head attention of queries to a memory whose keys and values can be kept."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """softmax(Q·Kᵀ / √c)·V with Q of the queries, K and V of a memory.

        keys, values = attention.remember(source)  # once
        for target in targets:
            out = attention(target, keys, values)

    Attention of tokens to themselves is ``attention(x, *attention.remember(x))``.

    Args:
        width: length of a token.
        heads: parts into which it is split.
        memory_width: length of a token of the memory; None: ``width``.
    """

    def __init__(self, width: int, heads: int, memory_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads cannot share {width} channels")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(memory_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def remember(self, memory: Float[Tensor, "b m c"]) -> tuple[Tensor, Tensor]:
        """Keys and values ``(b, heads, m, width / heads)`` of a memory."""
        keys, values = self.key_value(memory).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(self, x: Float[Tensor, "b n c"], keys: Tensor, values: Tensor) -> Float[Tensor, "b n c"]:
        """What the queries ``x`` read from the memory."""
        read = F.scaled_dot_product_attention(self._split(self.query(x)), keys, values)
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
