"""Residual blocks that take time and audio in, in guided-diffusion's layout."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.diff2lip.normalisation import group_norm

Conditioning = Literal["additive", "scale_shift"]


class ResidualBlock(nn.Module):
    """``skip(x) + conv(silu(norm(conv(silu(norm(x))) ⊕ e)))``.

    e is a linear map of silu(embedding). ⊕ adds it (``additive``, as the published weights do), or scales and
    shifts what the second norm gives: norm(·)(1 + e₁) + e₂ (``scale_shift``, adaptive group normalisation as
    the paper's text has it). Halving and doubling of the map happen between the first activation and the
    first convolution, in both branches.

    Keys: ``in_layers.{0,2} emb_layers.1 out_layers.{0,3} skip_connection``.

    Args:
        channels_in: of the input.
        channels: of the output.
        embedding_dim: of the embedding.
        conditioning: see above.
        dropout: before the last convolution.
        down: average over cells of this height and width; None keeps the size.
        up: double the size, nearest neighbour.
        smallest_group: see ``group_norm``.

    Shapes: ``(b, channels_in, h, w)``, ``(b, embedding_dim)`` → ``(b, channels, h', w')``.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        embedding_dim: int,
        conditioning: Conditioning = "additive",
        dropout: float = 0.0,
        down: tuple[int, int] | None = None,
        up: bool = False,
        smallest_group: int = 4,
    ) -> None:
        super().__init__()
        if conditioning not in ("additive", "scale_shift"):
            raise ValueError(f"conditioning is additive or scale_shift, not {conditioning!r}")
        self.scale_shift = conditioning == "scale_shift"
        self.down, self.up = down, up
        self.in_layers = nn.Sequential(
            group_norm(channels_in, smallest_group), nn.SiLU(), nn.Conv2d(channels_in, channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_dim, 2 * channels if self.scale_shift else channels)
        )
        last = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.out_layers = nn.Sequential(
            group_norm(channels, smallest_group), nn.SiLU(), nn.Dropout(dropout), last
        )
        self.skip_connection = (
            nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)
        )

    def forward(self, x: Float[Tensor, "b c h w"], embedding: Float[Tensor, "b e"]) -> Tensor:
        """One block."""
        norm, activation, convolution = self.in_layers
        y = convolution(self._resample(activation(norm(x))))
        condition = self.emb_layers(embedding).to(y.dtype)[..., None, None]
        if self.scale_shift:
            scale, shift = condition.chunk(2, dim=1)
            norm, *rest = self.out_layers
            y = norm(y) * (1 + scale) + shift
            for layer in rest:
                y = layer(y)
        else:
            y = self.out_layers(y + condition)
        return self.skip_connection(self._resample(x)) + y

    def _resample(self, x: Tensor) -> Tensor:
        if self.down is not None:
            return F.avg_pool2d(x, self.down)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x


class Conditioned(nn.Sequential):
    """Layers in a row, of which residual blocks are handed the embedding as well."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """``(b, c, h, w)``, ``(b, e)`` → ``(b, c', h', w')``."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return x
