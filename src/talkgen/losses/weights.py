"""Weights of loss terms, one class a system. A misspelt name is refused by the constructor."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


class _NonNegative:
    """Refuse weights that are negative or no numbers."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise ValueError(f"{type(self).__name__}.{field.name} must be a number ≥ 0, not {value!r}")


@dataclass(frozen=True)
class VQGANWeights(_NonNegative):
    """SwapTalk's first stage. Its paper gives no weights; these are those of the code nearest to it.

    Args:
        l1: mean absolute difference of pixels (taming-transformers: 1).
        mouth: the same inside the mouth's box, which is a fiftieth of the picture and all of the message.
        eyes: the same inside the box around both eyes.
        perceptual: LPIPS (taming-transformers: 1).
        codebook: the quantiser's loss (taming-transformers: 1).
        adversarial: the generator's adversarial term (taming-transformers: 0.8 of the adaptive weight).
        identity: 1 − cos of identity embeddings (RestoreFormer's stage 1: 1 to 3).
    """

    l1: float = 1.0
    mouth: float = 0.0
    eyes: float = 0.0
    perceptual: float = 1.0
    codebook: float = 1.0
    adversarial: float = 0.8
    identity: float = 1.0


@dataclass(frozen=True)
class FaceSwapWeights(_NonNegative):
    """SwapTalk's face-swapping module. Its paper gives no weights; see docs/swaptalk.md.

    Args:
        proxy: smooth L1 to the label's latent, where a teacher gave label or target.
        reconstruction: the same where source and target are one person.
        identity_source: 1 − cos of the swapped picture and the source.
        identity_label: 1 − cos of the swapped picture and the label.
        codes: cross-entropy against the label's codes (CodeFormer's stage 2: 0.5); 0 as in the paper.
    """

    proxy: float = 1.0
    reconstruction: float = 1.0
    identity_source: float = 0.5
    identity_label: float = 0.5
    codes: float = 0.0


@dataclass(frozen=True)
class LipSyncWeights(_NonNegative):
    """SwapTalk's lip-sync module: L_code + L_sync in the paper, which gives no weights; the rest are options.

    Args:
        code: smooth L1 to the target's lower latent, at unit variance.
        sync: what the latent sync expert says of the generated lips and the sound.
        lips: 1 − cos of the expert's embeddings of generated and true lips.
        shape: what the mouth looks like, told by the speech tokens alone; a hint, see the system.
        entropy: cross-entropy against the target's lower codes (CodeFormer's stage 2: 0.5).
        temporal: L1 between the changes from frame to frame of generated and true latents.
        picture: L1 of the decoded mouth.
        perceptual: perceptual distance of the decoded mouth.
        adversarial: what a discriminator says of the decoded mouth (MuseTalk: 0.01).
    """

    code: float = 1.0
    sync: float = 0.1
    lips: float = 0.0
    shape: float = 0.0
    entropy: float = 0.0
    temporal: float = 0.0
    picture: float = 0.0
    perceptual: float = 0.0
    adversarial: float = 0.0


@dataclass(frozen=True)
class Diff2LipWeights(_NonNegative):
    """Diff2Lip, equation 9, with the weights that its authors gave for the published checkpoint.

    Args:
        noise: masked squared error of the predicted noise (1).
        variational: the bound that teaches the variance (1, as in improved DDPM for 1000 timesteps).
        l2: masked squared error of the estimated picture (1).
        perceptual: LPIPS of the estimated picture (0.25).
        sync: what the frozen lip-sync expert says (0.1).
        adversarial: the sequential adversarial term (0.5).
        shape: what the mouth looks like, told by the embedded sound alone; a hint, see the system (none).
    """

    noise: float = 1.0
    variational: float = 1.0
    l2: float = 1.0
    perceptual: float = 0.25
    sync: float = 0.1
    adversarial: float = 0.5
    shape: float = 0.0


@dataclass(frozen=True)
class RendererWeights(_NonNegative):
    """PIRenderer's terms, with its weights; and L1, which makes short trainings go.

    Args:
        warp: perceptual distance of the warped picture (2.5).
        final: perceptual and style distance of the final picture (4).
        l1: mean absolute difference of either picture (0).
        mouth: the same inside the mouth's box (0).
        eyes: the same inside the box around both eyes (0).
        points: how far from the source's landmarks the flow takes those of the target, in pictures (0).
    """

    warp: float = 2.5
    final: float = 4.0
    l1: float = 0.0
    mouth: float = 0.0
    eyes: float = 0.0
    points: float = 0.0


@dataclass(frozen=True)
class MotionWeights(_NonNegative):
    """DisentTalk's motion diffusion. Its paper's λ of the sync loss is known (0.01); the rest is chosen.

    Args:
        lip: mean squared error of the lips' numbers, whose variance is 1.
        eye: of the eyes'.
        rest: of the others.
        velocity: of the changes from frame to frame, of all numbers, by the weights above.
        smoothness: mean square of the third differences of generated motion, by the weights above.
        landmarks: squared error of the 68 landmarks, in units of 0.1 decimetres.
        sync: what the frozen expert says of the generated lips and the sound.
    """

    lip: float = 1.0
    eye: float = 1.0
    rest: float = 0.5
    velocity: float = 0.0
    smoothness: float = 0.0
    landmarks: float = 0.0
    sync: float = 0.01
