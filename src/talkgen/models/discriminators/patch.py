"""PatchGAN: one real-or-generated logit for every patch of a picture (Isola et al., 2017)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from talkgen.models.layers.residual import group_norm

Norm = Literal["batch", "group", "spectral", "none"]


class PatchDiscriminator(nn.Module):
    """Convolutions of stride 2, then one of stride 1, then a map of logits.

    With ``norm="batch"`` its keys and shapes are those of taming-transformers' ``NLayerDiscriminator``
    (``main.0``, ``main.2``, …). The default is spectral normalisation, under which one batch's statistics do
    not leak into another's and the discriminator cannot run away from the generator so easily.

    Args:
        in_channels: channels of a picture; 3·t for a sequence whose frames lie on channels.
        channels: width of the first layer; doubled at each layer up to 8 times.
        layers: convolutions of stride 2; a logit sees 16, 34, 70 pixels for 1, 2, 3 layers.
        norm: normalisation between convolutions.

    Shapes: ``(b, in_channels, h, w)`` → about ``(b, 1, h / 2^layers − 2, w / 2^layers − 2)``.
    """

    def __init__(
        self, in_channels: int = 3, channels: int = 64, layers: int = 3, norm: Norm = "spectral"
    ) -> None:
        super().__init__()
        if norm not in ("batch", "group", "spectral", "none"):
            raise ValueError(f"norm is batch, group, spectral or none, not {norm!r}")
        widths = [min(2**i, 8) * channels for i in range(layers + 1)]
        body: list[nn.Module] = [_conv(in_channels, widths[0], 2, norm, bias=True), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            # A norm that has a bias makes the convolution's own superfluous.
            stride, bias = (2 if i < layers else 1), norm in ("spectral", "none")
            body.append(_conv(widths[i - 1], widths[i], stride, norm, bias))
            if norm == "batch":
                body.append(_batch_norm(widths[i]))
            elif norm == "group":
                body.append(group_norm(widths[i]))
            body.append(nn.LeakyReLU(0.2))
        body.append(_conv(widths[-1], 1, 1, norm, bias=True))
        self.main = nn.Sequential(*body)

    def forward(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        """Logits, positive for real."""
        return self.main(picture)


def _conv(channels_in: int, channels: int, stride: int, norm: Norm, bias: bool) -> nn.Module:
    conv = nn.Conv2d(channels_in, channels, 4, stride, padding=1, bias=bias)
    nn.init.normal_(conv.weight, 0.0, 0.02)
    return spectral_norm(conv) if norm == "spectral" else conv


def _batch_norm(channels: int) -> nn.Module:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return norm
