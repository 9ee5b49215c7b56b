"""A hint for the first minutes of a sync expert: what the mouth looks like, read off its landmarks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

MEASURES = 3


class MouthShapeLoss(nn.Module):
    """L = 3 ‖W_v v − m‖² + ‖W_a a − m‖², means over components: both embeddings must tell the mouth's shape.

    m holds, for each frame of the window, the opening between the inner lips, the width and the height of the
    mouth, in distances between the eyes, standardised over the batch. A contrastive loss tells an encoder
    only *that* two windows differ; this tells it where to look, which on little data is most of the work. It
    needs no labels beyond the landmarks of the store. The heads are thrown away after training.

    Args:
        dim: of the embeddings.
        frames: of a window.
    """

    def __init__(self, dim: int, frames: int = 5) -> None:
        super().__init__()
        self.face = nn.Linear(dim, MEASURES * frames)
        self.audio = nn.Linear(dim, MEASURES * frames)
        self.standardise = nn.BatchNorm1d(MEASURES * frames, affine=False)
        self.scale = dim**0.5  # components of a unit vector are small

    def forward(
        self, audio: Float[Tensor, "b d"], face: Float[Tensor, "b d"], landmarks: Float[Tensor, "b t 68 2"]
    ) -> Float[Tensor, ""]:
        """The loss, from unit vectors and iBUG points in any unit."""
        with torch.no_grad():
            shape = self.standardise(mouth_shape(landmarks.float()))
        of_face = self.face(self.scale * face.float())
        of_audio = self.audio(self.scale * audio.float())
        return 3 * (of_face - shape).square().mean() + (of_audio - shape).square().mean()


def mouth_shape(landmarks: Float[Tensor, "b t 68 2"]) -> Float[Tensor, "b n"]:
    """Opening, width and height of the mouth in each frame, in distances between the eyes; n = 3·t."""
    eyes = (landmarks[:, :, 36:42].mean(2) - landmarks[:, :, 42:48].mean(2)).norm(dim=-1).clamp_min(1e-6)
    pairs = ((62, 66), (48, 54), (51, 57))
    measures = [(landmarks[:, :, i] - landmarks[:, :, j]).norm(dim=-1) / eyes for i, j in pairs]
    return torch.stack(measures, dim=-1).flatten(1)
