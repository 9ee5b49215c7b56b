"""The SyncNet of LSE-C and LSE-D (Chung & Zisserman 2016, "Out of time"), layout of syncnet_v2.model.

Not the lip-sync expert of Wav2Lip, which is `syncnet.py`: this one is larger, sees whole faces and cepstral
coefficients, and is for scoring alone. Its vectors are compared by Euclidean distance and have any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from talkgen import weights
from talkgen.checkpoints import load_published

FRAMES = 5
"""Video frames of a window, at 25 fps."""
SIZE = 224
"""Width and height of the face crop."""
STEPS = 20
"""Audio steps of a window, at 100 Hz."""
COEFFICIENTS = 13
"""Cepstral coefficients of a step, see `talkgen.audio.mfcc`."""
DIM = 1024


def _audio_cnn() -> nn.Sequential:
    return nn.Sequential(
        *_conv2d(1, 64), nn.MaxPool2d(1, 1),
        *_conv2d(64, 192), nn.MaxPool2d(3, (1, 2)),
        *_conv2d(192, 384),
        *_conv2d(384, 256),
        *_conv2d(256, 256), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 512, (5, 4)), nn.BatchNorm2d(512), nn.ReLU(),
    )  # fmt: skip


def _conv2d(channels_in: int, channels: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()


def _lip_cnn() -> nn.Sequential:
    pool, stride = (1, 3, 3), (1, 2, 2)
    return nn.Sequential(
        *_conv3d(3, 96, (5, 7, 7), stride, 0), nn.MaxPool3d(pool, stride),
        *_conv3d(96, 256, (1, 5, 5), stride, 1), nn.MaxPool3d(pool, stride, (0, 1, 1)),
        *_conv3d(256, 256, (1, 3, 3), 1, 1),
        *_conv3d(256, 256, (1, 3, 3), 1, 1),
        *_conv3d(256, 256, (1, 3, 3), 1, 1), nn.MaxPool3d(pool, stride),
        *_conv3d(256, 512, (1, 6, 6), 1, 0),
    )  # fmt: skip


def _conv3d(
    channels_in: int,
    channels: int,
    kernel: tuple[int, int, int],
    stride: int | tuple[int, int, int],
    padding: int,
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv3d(channels_in, channels, kernel, stride, (0, padding, padding))
    return convolution, nn.BatchNorm3d(channels), nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, DIM))


class SyncNetV2(nn.Module):
    """Windows of sound and of a speaking face → vectors that lie near each other where they belong together.

    distance(t, s) = ‖lip(frames t … t+4) − audio(steps 4s … 4s+19)‖; see
    `talkgen.metrics.sync_distance`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _audio_cnn()
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = _lip_cnn()

    def embed_audio(self, mfcc: Tensor) -> Tensor:
        """Windows of cepstral coefficients (b, 1, 13, 20) → (b, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def lip_features(self, faces: Tensor) -> Tensor:
        """What the head of the lip stream sees: (b, 3, 5, 224, 224) → (b, 512).

        Args:
            faces: **BGR**, 0 to 255, no other scaling: that is what the published weights saw.
        """
        return self.netcnnlip(faces).flatten(1)

    def embed_lip(self, faces: Tensor) -> Tensor:
        """Windows of five face crops (b, 3, 5, 224, 224), BGR, 0 to 255 → (b, 1024)."""
        return self.netfclip(self.lip_features(faces))


def load_syncnet_v2(source: str | Path | Mapping[str, Tensor] = "syncnet_v2") -> SyncNetV2:
    """The network with its weights, in eval mode.

    Args:
        source: the name of the registry, a file, or a state dict.

    Raises:
        MissingWeights: the registry's file is not on this machine.
        FileError: not such a file.
    """
    network = SyncNetV2()
    if isinstance(source, str) and source in weights.REGISTRY:
        source = weights.find(source)
    load_published(network, source)
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def embed_video(network: SyncNetV2, crops: Tensor, batch: int = 32) -> Tensor:
    """Every window of a clip: crops uint8 **RGB** (t, 224, 224, 3) → (t − 4, 1024)."""
    device = next(network.parameters()).device
    frames = crops.flip(-1).permute(3, 0, 1, 2)[None]
    parts = []
    for start in range(0, len(crops) - FRAMES + 1, batch):
        # Only the first layer reaches over time, so that a run of frames gives all of its windows at once.
        maps = network.netcnnlip(frames[:, :, start : start + batch + FRAMES - 1].to(device).float())
        parts.append(network.netfclip(maps[0, :, :, 0, 0].T))
    return torch.cat(parts) if parts else torch.empty(0, DIM)


@torch.inference_mode()
def embed_sound(network: SyncNetV2, mfcc: Tensor, windows: int, batch: int = 64) -> Tensor:
    """The windows of steps 4t … 4t+19 for t < ``windows``: mfcc (steps, 13) → (windows, 1024)."""
    mfcc = mfcc.to(next(network.parameters()).device)
    parts = mfcc.float().T.unfold(1, STEPS, 4).permute(1, 0, 2)[:windows, None]
    return torch.cat([network.embed_audio(part) for part in parts.split(batch)])
