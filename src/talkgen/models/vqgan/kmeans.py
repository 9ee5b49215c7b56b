"""k-means, for the first state of a codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def kmeans(
    vectors: Float[Tensor, "n d"], clusters: int, iterations: int = 10, cosine: bool = False
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Lloyd's algorithm from the first ``clusters`` vectors (the caller shuffles); deterministic.

    A cluster that loses all members is put onto the vector that lies farthest from its own centre.

    Returns:
        Centres ``(clusters, d)`` (unit vectors with ``cosine``) and their numbers of members.
    """
    n = len(vectors)
    centres = vectors.repeat(-(-clusters // n), 1)[:clusters].clone()
    counts = vectors.new_zeros(clusters)
    for _ in range(iterations):
        # ‖v − c‖² = ‖v‖² + ‖c‖² − 2·v·c, in chunks that stay small
        rows = max(1, 2**24 // clusters)
        norms = centres.square().sum(1)
        nearest = [torch.addmm(norms, part, centres.T, alpha=-2).min(1) for part in vectors.split(rows)]
        members = torch.cat([found.indices for found in nearest])
        distance = torch.cat([found.values for found in nearest]) + vectors.square().sum(1)
        sums = torch.zeros_like(centres).index_put_((members,), vectors, accumulate=True)
        counts = torch.bincount(members, minlength=clusters).to(vectors)
        empty = (counts == 0).nonzero().flatten()
        centres = sums / counts.clamp_min(1)[:, None]
        if len(empty):
            far = distance.topk(min(len(empty), n)).indices
            centres[empty[: len(far)]] = vectors[far]
        if cosine:
            centres = F.normalize(centres, dim=1)
    return centres, counts
