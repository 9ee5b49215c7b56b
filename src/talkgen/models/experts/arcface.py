"""Identity networks: a face cut at the five-point template → a vector; same person, same direction.

Deng et al. 2019, "ArcFace". Input: RGB in [-1, 1], aligned to the 112-pixel template by `identity_warp`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen import weights
from talkgen.models.experts.iresnet import load_iresnet
from talkgen.models.experts.onnx_import import OnnxNetwork
from talkgen.models.experts.sphere20 import load_sphere20

SIZE = 112  # pixels, both sides


class IdentityNetwork(nn.Module):
    """A recogniser under one roof, whatever file it came from.

        network = load_arcface("arcface_mbf")
        cosine = F.cosine_similarity(network(faces), network(other_faces))

    Args:
        body: (b, 3, 112, 112) in [-1, 1], RGB → (b, dim).
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, faces: Tensor) -> Tensor:
        """Embeddings, not normalised.

        Args:
            faces: (b, 3, 112, 112), RGB in [-1, 1], aligned to the template.

        Returns:
            (b, dim) float32; computed in float32 also under autocast, since cosines of half-precision
            embeddings are too coarse for a loss.
        """
        if faces.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"identity networks take (b, 3, {SIZE}, {SIZE}), not {tuple(faces.shape)}")
        with torch.autocast(faces.device.type, enabled=False):
            return self.body(faces.float())

    def directions(self, faces: Tensor) -> Tensor:
        """Embeddings of length 1."""
        return F.normalize(self(faces), dim=1)


def load_arcface(source: str | Path = "arcface_mbf") -> IdentityNetwork:
    """An identity network with its weights, in eval mode.

    Args:
        source: a name of the registry (``arcface_mbf``, ``arcface_r50``, ``edgeface_s``,
            ``cosface_sphere20``), or a file: ``*.onnx``, or a checkpoint in the layout of arcface_torch's
            IResNets.

    Raises:
        MissingWeights: the registry's file is not on this machine.
        FileError: not such a file.
    """
    file = weights.find(str(source)) if str(source) in weights.REGISTRY else Path(source)
    body: nn.Module
    if source == "cosface_sphere20":
        body = load_sphere20(file)
    else:
        body = OnnxNetwork(file) if file.suffix == ".onnx" else load_iresnet(file)
    return IdentityNetwork(body).eval().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
