"""A sync expert on a morphable model: do these lips, as numbers, belong to this sound?"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.models.experts.syncnet import FRAMES, unit


class MotionSyncNet(nn.Module):
    """What five frames hear and how five frames of lips move → unit vectors whose cosine says whether they
    belong together (GeneFace's LandmarkHubertSyncNet, smaller).

    The mean of a window's lips is taken away: what is left moves, in any face.

    Args:
        audio_dim: of the features of a frame.
        mouth_dim: numbers of the lips of a frame: amounts of the lips' subspace, or landmarks.
        width: channels.
        dim: of the embeddings.
        dropout: of the features, in training.
        final_relu: embeddings without negative components, as ``CosineBCELoss`` needs them.

    Shapes: ``(b, 5, audio_dim)`` and ``(b, 5, mouth_dim)`` → two ``(b, dim)``.
    """

    def __init__(
        self,
        audio_dim: int,
        mouth_dim: int,
        width: int = 256,
        dim: int = 256,
        dropout: float = 0.1,
        final_relu: bool = False,
    ) -> None:
        super().__init__()
        self.audio_dim = audio_dim
        self.final_relu = final_relu
        self.audio_norm = nn.LayerNorm(audio_dim)
        self.audio = _Encoder(audio_dim, width, dim, dropout)
        self.mouth = _Encoder(mouth_dim, width, dim, 0.0)

    def embed_audio(self, heard: Float[Tensor, "b 5 a"]) -> Float[Tensor, "b e"]:
        """Unit vectors of what windows hear."""
        return self._unit(self.audio(self.audio_norm(heard)))

    def embed_mouth(self, mouth: Float[Tensor, "b 5 m"]) -> Float[Tensor, "b e"]:
        """Unit vectors of windows of lips."""
        return self._unit(self.mouth(mouth - mouth.mean(1, keepdim=True)))

    def forward(
        self, heard: Float[Tensor, "b 5 a"], mouth: Float[Tensor, "b 5 m"]
    ) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e"]]:
        """Audio and mouth embedding."""
        return self.embed_audio(heard), self.embed_mouth(mouth)

    def _unit(self, x: Tensor) -> Tensor:
        return unit(x.relu() if self.final_relu else x)


class _Encoder(nn.Module):
    """``(b, 5, dim)`` → ``(b, out)``: two convolutions along time, then all frames at once."""

    def __init__(self, dim: int, width: int, out: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(dim, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.LayerNorm(FRAMES * width)
        self.last = nn.Linear(FRAMES * width, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.dropout(x)).transpose(1, 2)
        for convolution in self.convolutions:
            x = x + convolution(F.silu(x))
        last: Tensor = self.last(F.silu(self.norm(x.flatten(1))))
        return last
