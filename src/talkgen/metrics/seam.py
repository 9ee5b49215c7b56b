"""Is there a visible line where the two halves of a picture meet?"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

NEIGHBOURS = 4


def seam(image: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Jump across the cut at half height, relative to the jumps between the rows around it.

    seam = j(h/2) / mean of j at the 4 rows above and the 4 below, with j(y) = mean |x[y] − x[y−1]|.
    About 1 in a picture without a seam; compare with the value of the ground truth.

    Args:
        image: any range; h even and at least 12.
    """
    rows = (image[:, :, 1:] - image[:, :, :-1]).abs().mean(dim=(1, 3))  # rows[:, y - 1] = j(y)
    cut = image.shape[2] // 2 - 1
    above = rows[:, cut - NEIGHBOURS : cut]
    below = rows[:, cut + 1 : cut + 1 + NEIGHBOURS]
    return rows[:, cut] / ((above.mean(1) + below.mean(1)) / 2).clamp_min(1e-3)
