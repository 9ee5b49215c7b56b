"""Identity loss: 1 − cos of the recogniser's embeddings (SwapTalk §2.2; SimSwap, eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen.models.experts.arcface import SIZE, IdentityNetwork, load_arcface
from talkgen.models.frozen import Frozen
from talkgen.models.layers.warp import warp_affine


class IdentityLoss(nn.Module):
    """L_id = mean(1 − cos(E(warp(generated)), E(warp(reference)))).

    The faces are cut out of the pictures by ``identity_warp`` before the recogniser E sees them: a recogniser
    that is fed whole pictures resized to 112 says little about who is in them.

        loss = IdentityLoss(load_arcface())
        loss(generated, source, generated_warp=warp, reference_warp=source_warp)

    Args:
        network: the recogniser; frozen here.
        samples: samples per pixel of the warp along each axis (see `warp_affine`); 2 keeps the gradient from
            falling on every other pixel where a face is larger than the template.
    """

    def __init__(self, network: IdentityNetwork, samples: int = 2) -> None:
        super().__init__()
        self.network = Frozen(network)
        self.samples = samples

    def embed(self, images: Tensor, identity_warp: Tensor) -> Tensor:
        """Directions of the faces in pictures.

        Args:
            images: (b, 3, h, w) in [-1, 1], RGB.
            identity_warp: (b, 2, 3), pixels of ``images`` → 112-pixel template.

        Returns:
            (b, dim), of length 1.
        """
        faces = warp_affine(images.float(), identity_warp, SIZE, samples=self.samples)
        return F.normalize(self.network(faces), dim=1)

    def forward(
        self,
        generated: Tensor,
        reference: Tensor,
        generated_warp: Tensor,
        reference_warp: Tensor | None = None,
    ) -> Tensor:
        """The loss; the gradient flows to ``generated`` only.

        Args:
            generated: (b, 3, h, w) in [-1, 1].
            reference: (b, 3, h', w') in [-1, 1], a picture of who should be seen.
            generated_warp: (b, 2, 3), pixels of ``generated`` → template.
            reference_warp: the same of ``reference``; None: ``generated_warp`` (a reconstruction).

        Returns:
            scalar in [0, 2].
        """
        with torch.no_grad():
            wanted = self.embed(reference, generated_warp if reference_warp is None else reference_warp)
        cosine = (self.embed(generated, generated_warp) * wanted).sum(dim=1)
        return (1 - cosine).mean()


def identity_loss(recogniser: str | None, samples: int = 2) -> IdentityLoss | None:
    """The loss with a recogniser of the registry of weights, or from a file; None: no such loss.

    Args:
        recogniser: see ``load_arcface``.
        samples: see ``IdentityLoss``.

    Raises:
        MissingWeights: the recogniser's file is not on this machine.
    """
    return None if recogniser is None else IdentityLoss(load_arcface(recogniser), samples)
