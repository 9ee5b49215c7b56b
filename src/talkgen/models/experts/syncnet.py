"""SyncNet, the lip-sync expert: does this piece of speech belong to these lips?

"A Lip Sync Expert Is All You Need" (Prajwal et al., 2020), in the key layout of the published
``SyncNet_color``: ``load_published(SyncNet(), "lipsync_expert.pth", layout="wav2lip")`` is strict.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# One line a convolution: channels out, kernel, stride, padding, residual.
_Line = tuple[int, int | tuple[int, int], int | tuple[int, int], int, bool]
FACE_LINES: tuple[_Line, ...] = (
    (32, 7, 1, 3, False),
    (64, 5, (1, 2), 1, False),
    (64, 3, 1, 1, True),
    (64, 3, 1, 1, True),
    (128, 3, 2, 1, False),
    (128, 3, 1, 1, True),
    (128, 3, 1, 1, True),
    (128, 3, 1, 1, True),
    (256, 3, 2, 1, False),
    (256, 3, 1, 1, True),
    (256, 3, 1, 1, True),
    (512, 3, 2, 1, False),
    (512, 3, 1, 1, True),
    (512, 3, 1, 1, True),
    (512, 3, 2, 1, False),
    (512, 3, 1, 0, False),
    (512, 1, 1, 0, False),
)
AUDIO_LINES: tuple[_Line, ...] = (
    (32, 3, 1, 1, False),
    (32, 3, 1, 1, True),
    (32, 3, 1, 1, True),
    (64, 3, (3, 1), 1, False),
    (64, 3, 1, 1, True),
    (64, 3, 1, 1, True),
    (128, 3, 3, 1, False),
    (128, 3, 1, 1, True),
    (128, 3, 1, 1, True),
    (256, 3, (3, 2), 1, False),
    (256, 3, 1, 1, True),
    (256, 3, 1, 1, True),
    (512, 3, 1, 0, False),
    (512, 1, 1, 0, False),
)

FRAMES = 5  # a window, 0.2 s at 25 fps
FACE_SIZE = 96  # pixels; the expert sees rows 48..95


class ConvBlock(nn.Module):
    """Convolution, batch norm, optional skip, ReLU; keys ``conv_block.0`` and ``conv_block.1``."""

    def __init__(self, channels_in: int, line: _Line, relu: bool = True) -> None:
        super().__init__()
        channels, kernel, stride, padding, self.residual = line
        self.conv_block = nn.Sequential(
            nn.Conv2d(channels_in, channels, kernel, stride, padding), nn.BatchNorm2d(channels)
        )
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """``(b, c, h, w)`` → ``(b, c', h', w')``."""
        y = self.conv_block(x)
        if self.residual:
            y = y + x
        return F.relu(y) if self.relu else y


class SyncNet(nn.Module):
    """Speech and lips to unit vectors whose cosine says whether they belong together.

    Args:
        width: factor on every number of channels; 1.0 is the published network (16.4 M parameters), 0.25 has
            a sixteenth of its parameters.
        final_relu: ReLU before the embeddings are normalised. True is the published network: no component is
            negative, so the cosine lies in [0, 1] and is a probability (``CosineBCELoss`` needs this). False
            uses the whole sphere, for contrastive training (``ShiftedInfoNCE``).

    Shapes: mel ``(b, 1, 80, 16)``, face ``(b, 15, 48, 96)`` in [0, 1] → two ``(b, dim)``, dim = 512·width.
    """

    def __init__(self, width: float = 1.0, final_relu: bool = True) -> None:
        super().__init__()
        self.final_relu = final_relu
        self.face_encoder = conv_encoder(3 * FRAMES, FACE_LINES, width, final_relu)
        self.audio_encoder = conv_encoder(1, AUDIO_LINES, width, final_relu)
        self.dim = scaled(FACE_LINES[-1][0], width)

    def embed_audio(self, mel: Float[Tensor, "b 1 80 16"]) -> Float[Tensor, "b dim"]:
        """Unit vectors of mel windows."""
        return unit(self.audio_encoder(mel))

    def embed_face(self, face: Float[Tensor, "b 15 48 96"]) -> Float[Tensor, "b dim"]:
        """Unit vectors of windows made by ``syncnet_input``."""
        return unit(self.face_encoder(face))

    def forward(
        self, mel: Float[Tensor, "b 1 80 16"], face: Float[Tensor, "b 15 48 96"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b dim"]]:
        """Audio and face embedding, in the published order."""
        return self.embed_audio(mel), self.embed_face(face)


def scaled(channels: int, width: float) -> int:
    """Channels times ``width``, at least 8."""
    return max(8, round(channels * width))


def conv_encoder(channels_in: int, lines: tuple[_Line, ...], width: float, final_relu: bool) -> nn.Sequential:
    """The convolutions of ``lines``, their channels times ``width``; the last has a ReLU on request."""
    blocks = []
    for i, (channels, kernel, stride, padding, residual) in enumerate(lines):
        line = (scaled(channels, width), kernel, stride, padding, residual)
        blocks.append(ConvBlock(channels_in, line, relu=final_relu or i < len(lines) - 1))
        channels_in = line[0]
    return nn.Sequential(*blocks)


def unit(x: Tensor) -> Tensor:
    """``(b, d)``, or with axes of 1 behind → unit vectors, in float32 whatever the precision around it."""
    return F.normalize(x.flatten(1).float(), dim=1)


def syncnet_input(
    video: Float[Tensor, "b t 3 h w"], channel_order: str = "bgr"
) -> Float[Tensor, "b c 48 96"]:
    """A window of faces as SyncNet takes it; gradients reach ``video``.

    [-1, 1] → [0, 1]; RGB → BGR (the published expert saw OpenCV's order); resize to 96×96; the lower half
    (rows 48..95); frames stacked on channels, frame by frame.

    Args:
        video: face crops of one window, RGB in [-1, 1], any size.
        channel_order: ``"bgr"`` for published weights, ``"rgb"`` for experts trained without that swap.

    Returns:
        ``(b, 3·t, 48, 96)``.
    """
    if channel_order not in ("bgr", "rgb"):
        raise ValueError(f"channel_order is 'bgr' or 'rgb', not {channel_order!r}")
    b, t, _, height, width = video.shape
    faces = video.flatten(0, 1)
    if (height, width) != (FACE_SIZE, FACE_SIZE):
        faces = F.interpolate(
            faces, (FACE_SIZE, FACE_SIZE), mode="bilinear", align_corners=False, antialias=True
        )
    faces = faces[:, :, FACE_SIZE // 2 :]
    if channel_order == "bgr":
        faces = faces.flip(1)
    return ((faces + 1) / 2).reshape(b, 3 * t, FACE_SIZE // 2, FACE_SIZE)
