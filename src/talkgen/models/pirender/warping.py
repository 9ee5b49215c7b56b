"""PIRenderer's warping net: how the source picture must be bent to the wanted motion."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkgen.models.pirender.normalisation import AdaIN, PictureNorm

_GENTLE = 0.3  # of the coarse flow, whose weights begin at zero: see the editing net


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


class _Down(nn.Module):
    """Half the size: AdaIN, Conv(4, stride 2), AdaIN, Conv(3)."""

    def __init__(self, channels: int, out: int, descriptor: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, out, 4, 2, 1)
        self.conv_1 = nn.Conv2d(out, out, 3, 1, 1)
        self.norm_0 = AdaIN(channels, descriptor)
        self.norm_1 = AdaIN(out, descriptor)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        x = self.conv_0(_leaky(self.norm_0(x, z)))
        return self.conv_1(_leaky(self.norm_1(x, z)))


class _Up(nn.Module):
    """Twice the size: AdaIN, Conv(3), AdaIN, transposed Conv(3, stride 2); residual."""

    def __init__(self, channels: int, out: int, descriptor: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, out, 3, 1, 1)
        self.conv_1 = nn.ConvTranspose2d(out, out, 3, 2, 1, 1)
        self.conv_s = nn.ConvTranspose2d(channels, out, 3, 2, 1, 1)
        self.norm_0 = AdaIN(channels, descriptor)
        self.norm_1 = AdaIN(out, descriptor)
        self.norm_s = AdaIN(channels, descriptor)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        change = self.conv_1(_leaky(self.norm_1(self.conv_0(_leaky(self.norm_0(x, z))), z)))
        return self.conv_s(_leaky(self.norm_s(x, z))) + change


class _Encoder(nn.Module):
    """A picture at every size."""

    def __init__(self, channels: list[int], descriptor: int, given: int) -> None:
        super().__init__()
        self.layers = len(channels) - 1
        self.input_layer = nn.Conv2d(given, channels[0], 7, 1, 3)
        for number in range(self.layers):
            setattr(self, f"encoder{number}", _Down(channels[number], channels[number + 1], descriptor))

    def forward(self, picture: Tensor, z: Tensor) -> list[Tensor]:
        sizes = [self.input_layer(picture)]
        for number in range(self.layers):
            sizes.append(getattr(self, f"encoder{number}")(sizes[-1], z))
        return sizes


class _Decoder(nn.Module):
    """Back to a larger size, each step beside what the encoder had of it."""

    def __init__(self, channels: list[int], layers: int, descriptor: int) -> None:
        super().__init__()
        deepest = len(channels) - 2
        self.steps = range(deepest, deepest - layers, -1)
        for number in self.steps:
            given = channels[number + 1] * (1 if number == deepest else 2)
            setattr(self, f"decoder{number}", _Up(given, channels[number], descriptor))

    def forward(self, sizes: list[Tensor], z: Tensor) -> Tensor:
        x = sizes.pop()
        for number in self.steps:
            x = torch.cat([getattr(self, f"decoder{number}")(x, z), sizes.pop()], 1)
        return x


class _Hourglass(nn.Module):
    def __init__(self, channels: list[int], layers: int, descriptor: int, given: int) -> None:
        super().__init__()
        self.encoder = _Encoder(channels, descriptor, given)
        self.decoder = _Decoder(channels, layers, descriptor)

    def forward(self, picture: Tensor, z: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(self.encoder(picture, z), z))


class WarpingNet(nn.Module):
    """Flow field w = g_w(I_s, z), at 1 / 2^(down − up) of the picture's size (PIRenderer, section 3.2).

    Args:
        channels: of the first layer; twice as many at each smaller size.
        most_channels: but no more than so many.
        down: layers to smaller sizes.
        up: layers back.
        descriptor: dimensions of z.
        patch: new trainings only, see ``PIRenderer``; sizes are of a picture so many times smaller.
        coarse: new trainings only: rows and columns of a flow that depends on the motion alone, A z, to which
            the hourglass adds what depends on the picture; 0: there is none. For aligned crops.
    """

    def __init__(
        self,
        channels: int = 32,
        most_channels: int = 256,
        down: int = 5,
        up: int = 3,
        descriptor: int = 256,
        patch: int = 1,
        coarse: int = 0,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.coarse = nn.Linear(descriptor, 2 * coarse**2) if coarse else None
        if self.coarse is not None:
            nn.init.zeros_(self.coarse.weight)
            nn.init.zeros_(self.coarse.bias)
        widths = [min(channels * 2**number, most_channels) for number in range(down + 1)]
        self.hourglass = _Hourglass(widths, up, descriptor, 3 * patch**2)
        out = 2 * widths[down - up]
        self.flow_out = nn.Sequential(PictureNorm(out), nn.LeakyReLU(0.1), nn.Conv2d(out, 2, 7, 1, 3))

    def forward(self, source: Tensor, descriptor: Tensor) -> Tensor:
        """``(b, 3, h, w)`` and ``(b, descriptor)`` → flow ``(b, 2, h', w')``: x and y, in cells of itself."""
        pictures = F.pixel_unshuffle(source, self.patch)
        flow = cast(Tensor, self.flow_out(self.hourglass(pictures, descriptor)))
        if self.coarse is None:
            return flow
        moved = _GENTLE * self.coarse(descriptor).unflatten(1, (2, -1))
        moved = moved.unflatten(2, (round(moved.shape[2] ** 0.5), -1))
        return flow + F.interpolate(moved, flow.shape[-2:], mode="bilinear", align_corners=True)


def sampling_grid(flow: Tensor) -> Tensor:
    """Where each cell of a flow ``(b, 2, h', w')`` is taken from: x and y from −1 to 1, the same shape."""
    height, width = flow.shape[-2:]
    flow = flow.float()
    x = torch.linspace(-1, 1, width, device=flow.device) + flow[:, 0] * (2 / (width - 1))
    y = torch.linspace(-1, 1, height, device=flow.device)[:, None] + flow[:, 1] * (2 / (height - 1))
    return torch.stack([x, y], 1)


def warp_by_flow(picture: Tensor, flow: Tensor, align_corners: bool) -> Tensor:
    """Each pixel from where the flow points: ``(b, 3, h, w)``.

    Args:
        picture: ``(b, 3, h, w)``.
        flow: ``(b, 2, h', w')``, displacement in cells of the flow.
        align_corners: what −1 and 1 mean: centres of the outer pixels, so that no flow changes nothing; or
            their outer edges, as the published weights were trained, to which no flow is a picture that is
            larger by 1 / w.
    """
    grid = sampling_grid(flow)
    if grid.shape[-2:] != picture.shape[-2:]:
        grid = F.interpolate(grid, picture.shape[-2:], mode="bilinear", align_corners=align_corners)
    grid = grid.permute(0, 2, 3, 1).to(picture.dtype)
    padding = "border" if align_corners else "zeros"
    return F.grid_sample(picture, grid, padding_mode=padding, align_corners=align_corners)


def points_by_flow(points: Tensor, flow: Tensor, size: int) -> Tensor:
    """Where the points of a warped picture lie in the source, ``(b, n, 2)`` in pixels of both; corners are
    aligned.

    Args:
        points: ``(b, n, 2)`` in pixels of the warped picture.
        flow: ``(b, 2, h', w')``.
        size: side of the pictures.
    """
    place = points.float() * (2 / (size - 1)) - 1
    found = F.grid_sample(sampling_grid(flow), place[:, :, None], padding_mode="border", align_corners=True)
    return (found[..., 0].mT + 1) * ((size - 1) / 2)
