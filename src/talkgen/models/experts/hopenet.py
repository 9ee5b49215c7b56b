"""HopeNet: head pose from a picture (Ruiz et al. 2018), layout of natanielruiz/deep-head-pose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

from talkgen import weights
from talkgen.checkpoints import load_published

SIZE = 224
"""Width and height of what the network sees."""
BINS = 66
"""Of 3 degrees each, from −99."""


class HopeNet(nn.Module):
    """ResNet-50 with three classifiers: (b, 3, 224, 224), normalised as for ImageNet → (b, 3, 66) logits.

    The three are yaw, pitch and roll.
    """

    def __init__(self) -> None:
        super().__init__()
        body = resnet50(weights=None)
        for name, part in body.named_children():
            if name != "fc":
                self.add_module(name, part)
        self.fc_yaw = nn.Linear(2048, BINS)
        self.fc_pitch = nn.Linear(2048, BINS)
        self.fc_roll = nn.Linear(2048, BINS)
        self.fc_finetune = nn.Linear(2048 + 3, 3)  # in the published files, and unused there too

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, 224, 224) → (b, 3, 66)."""
        x = images
        for name, part in self.named_children():
            if not name.startswith("fc_"):
                x = part(x)
        x = x.flatten(1)
        return torch.stack([self.fc_yaw(x), self.fc_pitch(x), self.fc_roll(x)], 1)


def degrees(logits: Tensor) -> Tensor:
    """3 · Σ_i i · softmax(logits)_i − 99: (..., 66) → (...)."""
    bins = torch.arange(BINS, dtype=logits.dtype, device=logits.device)
    return 3 * (logits.softmax(-1) * bins).sum(-1) - 99


def network_input(frames: Tensor) -> Tensor:
    """uint8 RGB (t, h, w, 3) → (t, 3, 224, 224), shrunk with smoothing and normalised as for ImageNet."""
    x = frames.permute(0, 3, 1, 2).float() / 255
    if x.shape[2:] != (SIZE, SIZE):
        x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    mean, deviation = x.new_tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return (x - mean) / deviation


def load_hopenet(source: str | Path | Mapping[str, Tensor] = "hopenet") -> HopeNet:
    """The network with its weights, in eval mode.

    Args:
        source: the name of the registry, a file, or a state dict.

    Raises:
        MissingWeights: the registry's file is not on this machine.
        FileError: not such a file.
    """
    network = HopeNet()
    if isinstance(source, str) and source in weights.REGISTRY:
        source = weights.find(source)
    load_published(network, source)
    return network.eval().requires_grad_(False)
