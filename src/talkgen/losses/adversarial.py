"""Adversarial losses, and how much they may weigh."""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class AdversarialLoss(nn.Module):
    """What a generator and a discriminator want of the logits; no network and no optimiser inside.

    | kind  | generator         | discriminator                                  |
    |-------|-------------------|------------------------------------------------|
    | hinge | −E[fake]          | ½ E[max(0, 1 − real)] + ½ E[max(0, 1 + fake)]  |
    | lsgan | ½ E[(fake − 1)²]  | ½ E[(real − 1)²] + ½ E[fake²]                  |
    | bce   | E[softplus(−fake)]| ½ E[softplus(−real)] + ½ E[softplus(fake)]     |

    Args:
        kind: see the table; hinge is what VQGAN was published with.
        lecam: weight of LeCam regularisation (Tseng et al. 2021, eq. 6): logits of one side may not move far
            from the running mean of the other's, which steadies training on little data. 0 leaves it out.
        decay: of those running means.
    """

    mean_real: Tensor
    mean_fake: Tensor

    def __init__(
        self, kind: Literal["hinge", "lsgan", "bce"] = "hinge", lecam: float = 0.0, decay: float = 0.99
    ) -> None:
        super().__init__()
        if kind not in ("hinge", "lsgan", "bce"):
            raise ValueError(f"kind is hinge, lsgan or bce, not {kind!r}")
        self.kind, self.lecam, self.decay = kind, lecam, decay
        if lecam:
            self.register_buffer("mean_real", torch.zeros(()))
            self.register_buffer("mean_fake", torch.zeros(()))

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Of the logits of generated pictures, any shape."""
        fake = fake.float()
        if self.kind == "hinge":
            return -fake.mean()
        if self.kind == "lsgan":
            return 0.5 * (fake - 1).square().mean()
        return F.softplus(-fake).mean()

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Of the logits of generated (detached) and of real pictures."""
        fake, real = fake.float(), real.float()
        if self.kind == "hinge":
            loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        elif self.kind == "lsgan":
            loss = 0.5 * ((real - 1).square().mean() + fake.square().mean())
        else:
            loss = 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        return loss + self.lecam * self._lecam(fake, real) if self.lecam else loss

    def _lecam(self, fake: Tensor, real: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean_real.lerp_(real.mean(), 1 - self.decay)
            self.mean_fake.lerp_(fake.mean(), 1 - self.decay)
        above = F.relu(real - self.mean_fake).square().mean()
        below = F.relu(self.mean_real - fake).square().mean()
        return above + below


def r1_penalty(real: Tensor, logits: Tensor) -> Tensor:
    """½ E‖∇ₓ D(x)‖² at real pictures (Mescheder et al. 2018, eq. 9); multiply by γ.

    Args:
        real: ``(b, c, h, w)`` that requires a gradient.
        logits: the discriminator's answer to it.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def adaptive_weight(
    reconstruction_loss: Tensor, generator_loss: Tensor, last_layer: Tensor, maximum: float = 1.0
) -> Tensor:
    """λ = ‖∇_L L_rec‖ / (‖∇_L L_GAN‖ + 1e-4), L the decoder's last layer ("Taming Transformers", eq. 7).

    Published code lets it grow to 10⁴, and it does when the discriminator is fooled, which wrecks the
    reconstruction; CodeFormer's bound of 1 is the default here. No gradient flows through λ. Under DDP the
    gradients are those of the global batch, so every process takes the λ that one process would.

    Args:
        reconstruction_loss: what the generator minimises beside the adversarial term.
        generator_loss: the adversarial term.
        last_layer: a weight that both depend on.
        maximum: upper bound.
    """
    (wanted,) = torch.autograd.grad(reconstruction_loss, last_layer, retain_graph=True)
    (pushed,) = torch.autograd.grad(generator_loss, last_layer, retain_graph=True)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        # The ratio of mean gradients, not the mean of ratios: a λ of its own on each process would weigh the
        # parts of one batch differently.
        both = torch.stack([wanted, pushed])
        dist.all_reduce(both)
        wanted, pushed = both / dist.get_world_size()
    return (wanted.norm() / (pushed.norm() + 1e-4)).clamp(0, maximum).detach()
