"""SwapTalk's face-swapping module: cross-attention from target tokens to source tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.cross_attention import CrossAttention
from talkgen.models.layers.grid_position import GridPosition
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.swaptalk.swapper import SourceMemory


class FaceSwap(nn.Module):
    """The module as the authors draw it::

        s = Linear(S_VQ) + position + semantic          source
        t = Linear(T_VQ) + position + semantic          target
        N times:  t = LN(t + MHA(Q=t, K=s, V=s));  t = LN(t + FFN(t))
        T̂_VQ = Linear(t)

    K and V come from the same source tokens in every layer. What the paper leaves open is an argument.

    Args:
        dim: channels of a latent.
        width: length of a token.
        layers: N.
        heads: of the attention.
        feed_forward: width of the FFN's hidden layer, as a multiple of ``width``.
        grid: rows and columns of the learned positions; other maps resample them.
        norm: ``"post"`` as drawn, ``"pre"``: t = t + MHA(LN(t), …), t = t + FFN(LN(t)), and LN at the end.
        self_attention: target tokens also attend to each other, before they attend to the source.
        residual: T̂_VQ = T_VQ + Linear(t), the Linear beginning at zero, so that training begins at "no swap"
            and what surrounds the face need not be learned. False: T̂_VQ = Linear(t), as drawn.
    """

    def __init__(
        self,
        dim: int,
        width: int = 512,
        layers: int = 9,
        heads: int = 8,
        feed_forward: int = 4,
        grid: Sequence[int] = (20, 20),
        norm: Literal["pre", "post"] = "pre",
        self_attention: bool = False,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"norm is 'pre' or 'post', not {norm!r}")
        self.dim = dim
        self.residual = residual
        self.scale = LatentScale(dim)
        self.target_tokens = Tokens(dim, width, grid)
        self.source_tokens = Tokens(dim, width, grid)
        before = norm == "pre"
        self.source_norm = nn.LayerNorm(width) if before else nn.Identity()
        self.blocks = nn.ModuleList(
            SwapBlock(width, heads, feed_forward, before, self_attention) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width) if before else nn.Identity()
        self.out = nn.Linear(width, dim)
        if residual:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self, target: Float[Tensor, "b d h w"], source: Float[Tensor, "b d h w"]
    ) -> Float[Tensor, "b d h w"]:
        """T_VQ, S_VQ → T̂_VQ; the maps may have different sizes."""
        return self.swap(target, self.source_memory(source))

    def source_memory(self, source: Float[Tensor, "b d h w"]) -> SourceMemory:
        """Keys and values of every layer."""
        tokens = self.source_norm(self.source_tokens(self.scale.normalise(source)))
        attentions = [block.attention for block in self.blocks]
        return SourceMemory(tuple(kv for attention in attentions for kv in attention.remember(tokens)))  # type: ignore[union-attr, operator]

    def swap(self, target: Float[Tensor, "b d h w"], memory: SourceMemory) -> Float[Tensor, "b d h w"]:
        """Swapped latents of targets; ``memory`` is of as many sources, or of one for all of them."""
        normal = self.scale.normalise(target)
        tokens = self.target_tokens(normal)
        kept = memory.expand(len(target)).tensors
        for block, keys, values in zip(self.blocks, kept[::2], kept[1::2], strict=True):
            tokens = block(tokens, keys, values)
        change = self.out(self.norm(tokens)).transpose(1, 2).unflatten(2, target.shape[2:])
        return self.scale.restore(normal + change if self.residual else change)


class Tokens(nn.Module):
    """Linear(z) + position + semantic, where "semantic" says whether a token is the source's or the target's.

    Args:
        dim: channels of a latent.
        width: length of a token.
        grid: see ``GridPosition``.
    """

    def __init__(self, dim: int, width: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)
        self.position = GridPosition(width, grid)
        self.semantic = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b n width"]:
        """Tokens of a latent map, row by row."""
        position = self.position(*latent.shape[-2:]).flatten(2).transpose(1, 2)
        return self.linear(latent.flatten(2).transpose(1, 2)) + position + self.semantic


class SwapBlock(nn.Module):
    """One of the N blocks of ``FaceSwap``; its arguments are explained there."""

    def __init__(self, width: int, heads: int, feed_forward: int, before: bool, self_attention: bool) -> None:
        super().__init__()
        self.before = before
        self.attention = CrossAttention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward * width), nn.GELU(), nn.Linear(feed_forward * width, width)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.own = CrossAttention(width, heads) if self_attention else None
        self.own_norm = nn.LayerNorm(width) if self_attention else nn.Identity()

    def forward(self, t: Float[Tensor, "b n c"], keys: Tensor, values: Tensor) -> Float[Tensor, "b n c"]:
        """Target tokens, after reading from the source."""
        if self.before:
            if self.own is not None:
                x = self.own_norm(t)
                t = t + self.own(x, *self.own.remember(x))
            t = t + self.attention(self.norm1(t), keys, values)
            return t + self.feed_forward(self.norm2(t))
        if self.own is not None:
            t = self.own_norm(t + self.own(t, *self.own.remember(t)))
        t = self.norm1(t + self.attention(t, keys, values))
        return self.norm2(t + self.feed_forward(t))
