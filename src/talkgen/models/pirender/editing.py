"""PIRenderer's editing net: what bending alone cannot show, such as teeth and closed eyes."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkgen.models.pirender.normalisation import AdaIN, PictureNorm

_GENTLE = 0.1
"""Of what is added to a bent picture: a layer that begins at zero leaps with the first steps of Adam, which
are as large in every weight, and it has thousands of inputs."""


class _Normed(nn.Module):
    """Conv, normalisation, leaky ReLU."""

    def __init__(self, channels: int, out: int, kernel: int = 3) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(channels, out, kernel, 1, kernel // 2), PictureNorm(out), nn.LeakyReLU(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x))


class _Residual(nn.Module):
    """As published: x + AdaIN(Conv₂(x)). The published code also computes act(AdaIN₁(Conv₁(x))), and
    throws it away.

    With ``fixed`` it is what was meant: x + AdaIN₂(Conv₂(act(AdaIN₁(Conv₁(x))))).
    """

    def __init__(self, channels: int, descriptor: int, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed
        if fixed:
            self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
            self.norm1 = AdaIN(channels, descriptor)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.norm2 = AdaIN(channels, descriptor)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        inner = F.leaky_relu(self.norm1(self.conv1(x), z), 0.1) if self.fixed else x
        return x + cast(Tensor, self.norm2(self.conv2(inner), z))


class _Residuals(nn.Module):
    def __init__(self, blocks: int, channels: int, descriptor: int, fixed: bool) -> None:
        super().__init__()
        self.blocks = blocks
        for number in range(blocks):
            setattr(self, f"res{number}", _Residual(channels, descriptor, fixed))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        for number in range(self.blocks):
            x = getattr(self, f"res{number}")(x, z)
        return x


class _Encoder(nn.Module):
    def __init__(self, given: int, channels: list[int]) -> None:
        super().__init__()
        self.layers = len(channels) - 1
        self.first = _Normed(given, channels[0], 7)
        for number in range(self.layers):
            setattr(self, f"down{number}", _Normed(channels[number], channels[number + 1]))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        sizes = [self.first(pictures)]
        for number in range(self.layers):
            sizes.append(F.avg_pool2d(getattr(self, f"down{number}")(sizes[-1]), 2))
        return sizes


class _Final(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(channels, out, 7, 1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.model(x))


class _Decoder(nn.Module):
    def __init__(self, channels: list[int], out: int, blocks: int, descriptor: int, fixed: bool) -> None:
        super().__init__()
        self.steps = range(len(channels) - 2, -1, -1)
        for number in self.steps:
            setattr(self, f"up{number}", _Normed(channels[number + 1], channels[number]))
            setattr(self, f"res{number}", _Residuals(blocks, channels[number + 1], descriptor, fixed))
            setattr(self, f"jump{number}", _Normed(channels[number], channels[number]))
        self.final = _Final(channels[0], out)

    def forward(self, sizes: list[Tensor], z: Tensor) -> Tensor:
        x = sizes.pop()
        for number in self.steps:
            x = getattr(self, f"res{number}")(x, z)
            x = getattr(self, f"up{number}")(F.interpolate(x, scale_factor=2.0))
            x = getattr(self, f"jump{number}")(sizes.pop()) + x
        return cast(Tensor, self.final(x))


class EditingNet(nn.Module):
    """Î = g_e(Î_w, I_s, z) (PIRenderer, section 3.3).

    Args:
        channels: of the first layer; twice as many at each smaller size.
        most_channels: but no more than so many.
        layers: to smaller sizes and back.
        blocks: residual blocks a size.
        descriptor: dimensions of z.
        fix_res_block, residual, patch: new trainings only, see ``PIRenderer``.
    """

    def __init__(
        self,
        channels: int = 64,
        most_channels: int = 256,
        layers: int = 3,
        blocks: int = 2,
        descriptor: int = 256,
        fix_res_block: bool = False,
        residual: bool = False,
        patch: int = 1,
    ) -> None:
        super().__init__()
        widths = [min(channels * 2**number, most_channels) for number in range(layers + 1)]
        self.residual = residual
        self.patch = patch
        self.encoder = _Encoder(6 * patch**2, widths)
        self.decoder = _Decoder(widths, 3 * patch**2, blocks, descriptor, fix_res_block)
        if residual:
            last = self.decoder.final.model[0]
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, source: Tensor, warped: Tensor, descriptor: Tensor) -> Tensor:
        """Twice ``(b, 3, h, w)`` and ``(b, descriptor)`` → picture ``(b, 3, h, w)`` in [-1, 1]."""
        pictures = F.pixel_unshuffle(torch.cat([source, warped], 1), self.patch)
        out = F.pixel_shuffle(self.decoder(self.encoder(pictures), descriptor), self.patch)
        return (warped + _GENTLE * out).clamp(-1, 1) if self.residual else torch.tanh(out)
