"""Backbone "DiT" of the face-swapping module: self-attention steered by one vector of the source."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.layers.cross_attention import CrossAttention
from talkgen.models.layers.latent_scale import LatentScale
from talkgen.models.swaptalk.face_swap import Tokens
from talkgen.models.swaptalk.swapper import SourceMemory


class FaceSwapDiT(nn.Module):
    """Blocks of a diffusion transformer (Peebles & Xie 2023, "adaLN-Zero"), with the source in the place of
    time and class, in one pass without noise::

        c = MLP(mean of the source's tokens, after `source_layers` blocks of self-attention)
        N times:  t = t + α₁(c)·MHA(γ₁(c)·LN(t) + β₁(c));  t = t + α₂(c)·FFN(γ₂(c)·LN(t) + β₂(c))

    All that a target learns of its source is c: an identity, not a picture to copy from.

    Args:
        dim: channels of a latent.
        width: length of a token, and of c.
        layers: N.
        heads: of the attention.
        feed_forward: width of the FFN's hidden layer, as a multiple of ``width``.
        grid: rows and columns of the learned positions; other maps resample them.
        source_layers: blocks on the source's tokens.
        residual: see ``FaceSwap``.
    """

    def __init__(
        self,
        dim: int,
        width: int = 512,
        layers: int = 9,
        heads: int = 8,
        feed_forward: int = 4,
        grid: Sequence[int] = (20, 20),
        source_layers: int = 3,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.residual = residual
        self.scale = LatentScale(dim)
        self.target_tokens = Tokens(dim, width, grid)
        self.source_tokens = Tokens(dim, width, grid)
        self.source_blocks = nn.ModuleList(
            SteeredBlock(width, heads, feed_forward, steered=False) for _ in range(source_layers)
        )
        self.source_out = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(SteeredBlock(width, heads, feed_forward) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
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
        """The vector c."""
        tokens = self.source_tokens(self.scale.normalise(source))
        for block in self.source_blocks:
            tokens = block(tokens)
        return SourceMemory((self.source_out(tokens.mean(dim=1)),))

    def swap(self, target: Float[Tensor, "b d h w"], memory: SourceMemory) -> Float[Tensor, "b d h w"]:
        """Swapped latents of targets; ``memory`` is of as many sources, or of one for all of them."""
        normal = self.scale.normalise(target)
        tokens = self.target_tokens(normal)
        (c,) = memory.expand(len(target)).tensors
        for block in self.blocks:
            tokens = block(tokens, c)
        change = self.out(self.norm(tokens)).transpose(1, 2).unflatten(2, target.shape[2:])
        return self.scale.restore(normal + change if self.residual else change)


class SteeredBlock(nn.Module):
    """Self-attention and FFN, both scaled, shifted and gated by a vector; a plain pre-LN block without one.

    Args:
        width: length of a token and of the vector.
        heads: of the attention.
        feed_forward: width of the FFN's hidden layer, as a multiple of ``width``.
        steered: take a vector. The gates begin at zero, so that the block begins as the identity.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, steered: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=not steered)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=not steered)
        self.attention = CrossAttention(width, heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward * width), nn.GELU(), nn.Linear(feed_forward * width, width)
        )
        self.steer = nn.Linear(width, 6 * width) if steered else None
        if self.steer is not None:
            nn.init.zeros_(self.steer.weight)
            nn.init.zeros_(self.steer.bias)

    def forward(self, t: Float[Tensor, "b n c"], c: Float[Tensor, "b c"] | None = None) -> Tensor:
        """Tokens → tokens."""
        if self.steer is None or c is None:
            x = self.norm1(t)
            t = t + self.attention(x, *self.attention.remember(x))
            return t + self.feed_forward(self.norm2(t))
        gain1, shift1, gate1, gain2, shift2, gate2 = self.steer(F.silu(c))[:, None].chunk(6, dim=-1)
        x = self.norm1(t) * (1 + gain1) + shift1
        t = t + gate1 * self.attention(x, *self.attention.remember(x))
        return t + gate2 * self.feed_forward(self.norm2(t) * (1 + gain2) + shift2)
