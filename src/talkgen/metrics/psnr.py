"""Peak signal-to-noise ratio."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from talkgen.metrics.clip_metric import ClipMetric
from talkgen.metrics.footage import Footage, Region

CAP_DB = 100.0
"""What identical pictures score, where the formula is infinite."""

LUMA = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255
"""Y of BT.601 in the studio range, without its offset of 16, which a difference does not see."""

Channels = Literal["rgb", "y"]


def psnr(
    generated: Tensor, ground_truth: Tensor, channels: Channels = "rgb", mask: Tensor | None = None
) -> Tensor:
    """10 log10(255² / MSE) of each frame in dB.

    Args:
        generated: uint8 (t, h, w, 3).
        ground_truth: uint8 (t, h, w, 3).
        channels: ``"rgb"`` averages the error over the three channels; ``"y"`` takes that of BT.601 luma,
            which comes out 1 to 5 dB higher.
        mask: bool (t, h, w), the pixels that count; all when None.

    Returns:
        float64 (t,), at most 100 (identical frames); NaN where the mask is empty.
    """
    pairs = zip(generated, ground_truth, strict=True)
    if mask is None:
        error = torch.stack([_squared(x, y, channels).mean(dtype=torch.float64) for x, y in pairs])
    else:
        inside = zip(pairs, mask, strict=True)
        error = torch.stack(
            [_squared(x[m], y[m], channels).mean(dtype=torch.float64) for (x, y), m in inside]
        )
    return (10 * torch.log10(255.0**2 / error)).clamp(max=CAP_DB)


def _squared(generated: Tensor, ground_truth: Tensor, channels: Channels) -> Tensor:
    """Squared differences, of each channel or of luma."""
    # int16 holds every difference of two bytes; bytes themselves would wrap around, which is how a widely
    # copied script arrives at 28 dB for unrelated pictures.
    difference = generated.to(torch.int16) - ground_truth.to(torch.int16)
    if channels == "rgb":
        return difference.float().square()
    return (difference.double() @ LUMA.to(difference.device)).square()


class PSNR(ClipMetric):
    """PSNR in dB of each frame, then the mean of the dBs (not the dB of the mean error).

    Args:
        channels: see :func:`psnr`.
        region: ``"full"`` frame, the ``"mouth"`` square of :func:`talkgen.metrics.footage.mouth_mask`, or the
            ``"background"``: what :func:`talkgen.metrics.footage.face_box_mask` leaves, compared with the
            frames that the model was given, which it should not change.
    """

    higher_is_better = True
    digits = 2

    def __init__(self, channels: Channels = "rgb", region: Region = "full") -> None:
        super().__init__()
        self.channels: Channels = channels
        self.region = region
        needs = {"full": {"truth"}, "mouth": {"truth", "mouth"}, "background": {"corpus"}}
        self.needs = frozenset(needs[region])
        self.column = f"PSNR[{channels}]" if region == "full" else f"PSNR[{channels},{region}]"

    def frame_values(self, footage: Footage) -> Tensor:
        """The dB of each frame."""
        wanted = footage.ground_truth
        if self.region == "background" and footage.target is not None:
            wanted = footage.target
        return psnr(footage.generated, wanted, self.channels, footage.mask(self.region))
