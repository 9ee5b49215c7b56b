"""What a lip-sync expert sees of a window: a tight box around the face, and perhaps only what moves in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from talkgen.models.layers.warp import warp_affine

BROWS = slice(17, 27)  # iBUG-68
JAW_RIGHT, CHIN, JAW_LEFT = 0, 8, 16


@dataclass(frozen=True)
class LipView:
    """Cuts one square around the face out of all frames of a window.

    Prepared crops leave room around the head, and the mouth is a few pixels in them; an expert that has to
    find it first learns many times more slowly. The box is as wide as it is high and follows the mean over
    the window: an opening jaw moves the chin in the box, not the box with the chin.

    Attributes:
        above: where the box begins above the brows, in heights of the face (brows to chin); 0.25 is about
            what Wav2Lip's detector cuts out, less makes the mouth larger.
        below: where it ends below the chin.
        motion: take the mean over the window's frames away. What is left is what moves, in any face and any
            light; the expert cannot learn people by heart instead of lips. Not for published experts.
        contrast: factor on what moves, which is a few hundredths of the range of a picture. What stands
            still becomes -1, which ``syncnet_input`` turns into 0, the value that convolutions pad with. A
            mean many times the signal would have to be taken away by the first batch norm, whose running
            mean lags behind weights that learn fast: in evaluation such an expert guesses for most of a run.
    """

    above: float = 0.25
    below: float = 0.1
    motion: bool = False
    contrast: float = 10.0

    def __post_init__(self) -> None:
        """Refuse boxes without a face in them."""
        if self.above + self.below <= -0.5:
            raise ValueError(f"a box of {1 + self.above + self.below:.2f} face heights shows no face")
        if self.contrast <= 0:
            raise ValueError(f"contrast must be positive, not {self.contrast}")

    def __call__(
        self, video: Float[Tensor, "b t 3 h w"], landmarks: Float[Tensor, "b t 68 2"], size: int = 96
    ) -> Float[Tensor, "b t 3 size size"]:
        """The view, to be handed to ``syncnet_input``; gradients reach ``video``.

        Args:
            video: frames, any range.
            landmarks: pixels of ``video``.
            size: of the box, in pixels.
        """
        # All frames of a window share one matrix, so they are warped as channels of one picture.
        cut = warp_affine(video.flatten(1, 2), self.matrix(landmarks, size), size, padding="border")
        view: Tensor = cut.unflatten(1, video.shape[1:3])
        return self.contrast * (view - view.mean(1, keepdim=True)) - 1 if self.motion else view

    def matrix(self, landmarks: Float[Tensor, "b t 68 2"], size: int) -> Float[Tensor, "b 2 3"]:
        """Pixels of the frames → pixels of the box, one matrix a window."""
        points = landmarks.float().mean(1)
        brows = points[:, BROWS, 1].mean(1)
        height = points[:, CHIN, 1] - brows
        scale = size / ((1 + self.above + self.below) * height)
        centre = (points[:, JAW_RIGHT, 0] + points[:, JAW_LEFT, 0]) / 2
        matrix = torch.zeros(len(points), 2, 3, device=points.device)
        matrix[:, 0, 0] = matrix[:, 1, 1] = scale
        # The edges of the box lie half a pixel outside the centres of its outermost pixels.
        matrix[:, 0, 2] = size / 2 - 0.5 - scale * centre
        matrix[:, 1, 2] = -0.5 - scale * (brows - self.above * height)
        return matrix
