"""Diff2Lip's sequential adversarial loss: do these frames, one after the other, look filmed?"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from talkgen.losses.adversarial import AdversarialLoss


def join_frames(video: Float[Tensor, "b t 3 h w"], lower_half: bool = False) -> Float[Tensor, "b c h2 w"]:
    """Frames joined on channels, the first one's RGB first: ``(b, 3·t, h or h/2, w)``.

    Args:
        video: windows.
        lower_half: leave out the upper half, which is the target's own.
    """
    if lower_half:
        video = video[..., video.shape[-2] // 2 :, :]
    return video.flatten(1, 2)


class SequenceAdversarialLoss(nn.Module):
    """A PatchGAN over windows joined on channels (5 frames are 15 channels).

    Seeing all frames at once it learns of flicker without optical flow. Which objective the authors took is
    not known: ``AdversarialLoss`` has three.

    Args:
        discriminator: ``(b, 3·t, h, w)`` → logits, such as ``PatchDiscriminator(15)``.
        adversarial: what both sides want of the logits.
        lower_half: show it the lower half alone: half the work, and nothing that is real in both.
    """

    def __init__(
        self, discriminator: nn.Module, adversarial: AdversarialLoss, lower_half: bool = False
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.adversarial = adversarial
        self.lower_half = lower_half

    def generator_loss(self, fake: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, ""]:
        """Of generated windows, in [-1, 1]."""
        return self.adversarial.generator_loss(self.discriminator(join_frames(fake, self.lower_half)))

    def discriminator_loss(
        self, fake: Float[Tensor, "b t 3 h w"], real: Float[Tensor, "b t 3 h w"]
    ) -> Float[Tensor, ""]:
        """Of generated windows, detached here, and of the same windows as filmed."""
        fake_logits = self.discriminator(join_frames(fake.detach(), self.lower_half))
        return self.adversarial.discriminator_loss(
            fake_logits, self.discriminator(join_frames(real, self.lower_half))
        )
