"""Expressions as numbers of unit variance, region by region; E_3d and D_3d of the paper where no codec is
trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from talkgen.errors import TalkgenError
from talkgen.face3d.motion_statistics import MotionStatistics

MouthGeometry = Literal["subspace", "landmarks"]

_SAME_FRAMES = 10  # frames that follow each other tell as much of a rest as one


class MotionSpace(nn.Module):
    """z = ((ψ − rest) E) / σ and back; the formulas are in ``talkgen.face3d.motion_statistics``.

    Everything is a buffer, so that a checkpoint knows its space without the files that it was made of.

    Args:
        sizes: directions of each region: lips, eyes, and the rest, or the rest alone.
        coefficients: of an expression.

    Attributes:
        sizes: the same.
    """

    encoder: Tensor
    decoder: Tensor
    mean: Tensor
    deviation: Tensor
    between: Tensor
    blink: Tensor
    landmark_basis: Tensor

    def __init__(self, sizes: Sequence[int] = (6, 4, 20), coefficients: int = 64) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        n, k = sum(sizes), coefficients
        shapes = {
            "encoder": (k, n),
            "decoder": (n, k),
            "mean": (k,),
            "deviation": (n,),
            "between": (n,),
            "blink": (n,),
            "landmark_basis": (n, 204),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @torch.no_grad()
    def set_from(self, statistics: MotionStatistics) -> None:
        """Take the numbers of a corpus.

        Raises:
            TalkgenError: they are of other sizes.
        """
        if tuple(statistics.sizes) != self.sizes or len(statistics.mean) != len(self.mean):
            raise TalkgenError(
                f"the subspaces have {list(statistics.sizes)} directions, the network {list(self.sizes)}; "
                "disentangle and train with the same sizes"
            )
        for name, value in (
            ("encoder", statistics.encode),
            ("decoder", statistics.decode),
            ("mean", statistics.mean),
            ("deviation", statistics.deviation),
            ("between", statistics.between),
            ("blink", statistics.blink),
            ("landmark_basis", statistics.landmarks),
        ):
            getattr(self, name).copy_(torch.from_numpy(value.copy()))

    @property
    def lips(self) -> slice:
        """Where the lips' numbers are in z.

        Raises:
            TalkgenError: no regions are told apart.
        """
        if len(self.sizes) == 1:
            raise TalkgenError("no regions are told apart in this space")
        return slice(0, self.sizes[0])

    @property
    def eyes(self) -> slice:
        """Where the eyes' numbers are in z; see ``lips``."""
        start = self.lips.stop
        return slice(start, start + self.sizes[1])

    def mouth(self, z: Float[Tensor, "... n"], geometry: MouthGeometry) -> Float[Tensor, "... m"]:
        """The lips as a sync expert sees them: amounts of their subspace, or their 20 landmarks (60 numbers)
        at about unit deviation."""
        if geometry == "subspace":
            return z[..., self.lips]
        if geometry != "landmarks":
            raise ValueError(f"the mouth's geometry is subspace or landmarks, not {geometry!r}")
        basis = self.landmark_basis[:, 48 * 3 :]
        return (z @ basis) / basis.square().sum(0).mean().sqrt()

    def mouth_size(self, geometry: MouthGeometry) -> int:
        """Numbers of ``mouth``."""
        return self.sizes[0] if geometry == "subspace" else 60

    def rest(self, expression: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
        """The resting expression of whoever shows these, from one frame or several that follow each other."""
        mean = expression.mean(0)
        independent = 1 + (len(expression) - 1) / _SAME_FRAMES
        difference = (mean - self.mean) @ self.encoder
        share = self.between / (self.between + 1 / independent)
        kept = (difference * share) @ self.decoder
        outside = mean - self.mean - difference @ self.decoder  # what no direction sees is the person's
        return self.mean + kept + outside

    def encode(
        self, expression: Float[Tensor, "... k"], rest: Float[Tensor, "... k"]
    ) -> Float[Tensor, "... n"]:
        """z of expressions about a rest (which broadcasts)."""
        return (expression - rest) @ self.encoder / self.deviation

    def decode(self, z: Float[Tensor, "... n"], rest: Float[Tensor, "... k"]) -> Float[Tensor, "... k"]:
        """Expressions of z about a rest."""
        return rest + (z * self.deviation) @ self.decoder

    def landmarks(self, z: Float[Tensor, "... n"]) -> Float[Tensor, "... 68 3"]:
        """How far z moves the 68 landmarks, decimetres."""
        return (z @ self.landmark_basis).unflatten(-1, (68, 3))
