"""SwapTalk's first stage: a VQGAN whose halves are encoded apart, with a codebook each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from talkgen.data.windows import as_uint8
from talkgen.losses.adversarial import AdversarialLoss, adaptive_weight
from talkgen.losses.reconstruction import region_box, weighted_l1
from talkgen.losses.weights import VQGANWeights
from talkgen.metrics.psnr import psnr
from talkgen.metrics.seam import seam
from talkgen.models.vqgan.vqgan import VQGAN, VQGANOutput
from talkgen.systems.augmentation import ColourAugmentation
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, manual_step, with_schedules


class IdentityTerm(Protocol):
    """1 − cos between the identities of two pictures, each warped to the recogniser's template."""

    def __call__(self, generated: Tensor, ground_truth: Tensor, identity_warp: Tensor) -> Tensor:
        """Two ``(b, 3, h, w)`` and the matrices ``(b, 2, 3)`` → a scalar."""


@dataclass(frozen=True)
class AdversarialSchedule:
    """When the discriminator learns, and when it pushes. Counted in batches of the run.

    Args:
        start: first batch at which the generator sees the adversarial (and identity) term.
        ramp: batches over which the term grows from 0 to its weight; 0 switches it on at once, which is how
            a good reconstruction is wrecked.
        discriminator_start: first batch at which the discriminator learns; before ``start``, so that it can
            already tell real from generated when it begins to push.
    """

    start: int
    ramp: int = 0
    discriminator_start: int = 0

    def __post_init__(self) -> None:
        if self.discriminator_start > self.start:
            raise ValueError(
                f"the discriminator must learn ({self.discriminator_start}) before it pushes ({self.start})"
            )

    def factor(self, batches: int) -> float:
        """What the adversarial weight is multiplied by after ``batches`` batches."""
        if batches < self.start:
            return 0.0
        return min(1.0, (batches - self.start + 1) / (self.ramp + 1))


REGIONS: tuple[Literal["mouth", "eyes"], ...] = ("mouth", "eyes")
"""Regions that may have an L1 term of their own."""


class VQGANSystem(LightningModule):
    """One step: the generator (VQGAN) on all its terms, then the discriminator on the same pictures.

    L_G = w_l1 ‖x − x̂‖₁ + w_mouth ‖x − x̂‖₁,mouth + w_eyes ‖x − x̂‖₁,eyes
          + w_perc L_perc + w_code L_code + f(i) (w_adv d L_adv + w_id L_id)
    with f the schedule and d = 1, or the clamped ratio of gradient norms at the decoder's last layer
    (taming-transformers; clamped to 1 as in CodeFormer, since the ratio itself can explode).

    Lightning's ``global_step`` counts the steps of both optimisers, so the schedule follows ``batches``,
    which is kept in checkpoints.

    Args:
        vqgan: the network.
        discriminator: pictures ``(b, 3, h, w)`` → logits.
        adversarial: losses of both sides.
        weights: weights of the terms; a term of weight 0 is not computed.
        schedule: when the adversarial term acts.
        optimizer: makes the generator's optimiser from its parameters.
        discriminator_optimizer: makes the discriminator's.
        perceptual: two pictures → scalar, or None.
        identity: see ``IdentityTerm``; or None.
        learning_rate: makes the learning rate schedule of either optimiser; None keeps rates constant.
        adaptive: weigh the adversarial term by gradient norms.
        gradient_clip: largest norm of either network's gradient; 0 does not clip.
        augmentation: of the pictures, in training.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        discriminator: nn.Module,
        adversarial: AdversarialLoss,
        weights: VQGANWeights,
        schedule: AdversarialSchedule,
        optimizer: OptimizerPartial,
        discriminator_optimizer: OptimizerPartial,
        perceptual: nn.Module | None = None,
        identity: IdentityTerm | None = None,
        learning_rate: SchedulePartial | None = None,
        adaptive: bool = False,
        gradient_clip: float = 1.0,
        augmentation: ColourAugmentation | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False
        self.vqgan = vqgan
        self.discriminator = discriminator
        self.adversarial = adversarial
        self.weights = weights
        self.schedule = schedule
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.perceptual = perceptual
        self.identity = identity
        self.learning_rate = learning_rate
        self.adaptive = adaptive
        self.gradient_clip = gradient_clip
        self.augmentation = augmentation
        self.batches = 0
        self.code_use = CodeUse()
        self.held_out_code_use = CodeUse()

    def forward(self, image: Tensor) -> Tensor:
        """``(b, 3, h, w)`` → its reconstruction."""
        reconstruction: Tensor = self.vqgan(image).reconstruction
        return reconstruction

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Generator first, then the discriminator on the detached reconstruction."""
        generator, discriminator = self.optimizers()  # type: ignore[misc, attr-defined]
        image = batch["video"].flatten(0, 1)
        if self.augmentation is not None:
            image = self.augmentation(image)
        with self.toggled_optimizer(generator):
            output = self.vqgan(image)
            terms = self.generator_terms(
                image, output, batch["identity_warp"].flatten(0, 1), batch["landmarks"].flatten(0, 1)
            )
            loss = self._total(terms, output)
            manual_step(self, 0, generator, loss)
        if self.batches >= self.schedule.discriminator_start:
            fake = output.reconstruction.detach()
            with self.toggled_optimizer(discriminator):
                terms["discriminator"] = self.adversarial.discriminator_loss(
                    self.discriminator(fake), self.discriminator(image)
                )
                manual_step(self, 1, discriminator, terms["discriminator"])
        self.batches += 1
        self.code_use.update(output.codes, self.vqgan.quantize.codes)
        self._log_training(terms, loss, image, output)
        return {"loss": loss.detach()}

    def generator_terms(
        self, image: Tensor, output: VQGANOutput, warp: Tensor, landmarks: Tensor
    ) -> dict[str, Tensor]:
        """The unweighted terms that act now, by name.

        Args:
            image: ``(b, 3, h, w)`` in [-1, 1].
            output: what the network made of it.
            warp: ``(b, 2, 3)`` pixels of ``image`` → recogniser's template.
            landmarks: ``(b, 68, 2)`` pixels of ``image``.
        """
        fake, weights = output.reconstruction, self.weights
        terms = {"l1": (image - fake).abs().mean(), "codebook": output.codebook_loss}
        height, width = image.shape[-2:]
        for region in REGIONS:
            if getattr(weights, region):
                terms[region] = weighted_l1(fake, image, region_box(landmarks, height, width, region))
        if self.perceptual is not None and weights.perceptual:
            terms["perceptual"] = self.perceptual(fake, image).mean()
        if self.schedule.factor(self.batches):
            if weights.adversarial:
                terms["adversarial"] = self.adversarial.generator_loss(self.discriminator(fake))
            if self.identity is not None and weights.identity:
                terms["identity"] = self.identity(fake, image, warp)
        return terms

    def _total(self, terms: dict[str, Tensor], output: VQGANOutput) -> Tensor:
        weights, factor = self.weights, self.schedule.factor(self.batches)
        reconstruction = weights.l1 * terms["l1"]
        for name in (*REGIONS, "perceptual"):
            if name in terms:
                reconstruction = reconstruction + getattr(weights, name) * terms[name]
        total = reconstruction + weights.codebook * terms["codebook"]
        if "adversarial" in terms:
            d_weight = torch.ones(())
            if self.adaptive:
                d_weight = adaptive_weight(reconstruction, terms["adversarial"], self.vqgan.last_layer)
            total = total + factor * weights.adversarial * d_weight * terms["adversarial"]
            self.log("train/d_weight", factor * weights.adversarial * d_weight.detach())
        if "identity" in terms:
            total = total + factor * weights.identity * terms["identity"]
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here, after a gradient scaler has taken its factor out (a manual step must do it itself)."""
        if self.gradient_clip:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")

    def _log_training(
        self, terms: dict[str, Tensor], loss: Tensor, image: Tensor, output: VQGANOutput
    ) -> None:
        self.log("train/loss", loss.detach())
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), prog_bar=name == "l1")
        if self.batches % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log_dict({f"train/{name}": value for name, value in self.code_use.compute().items()})
            self.code_use.reset()
            with torch.no_grad():
                self.log("train/seam", seam(output.reconstruction.float()).mean())
                self.log("train/seam_ground_truth", seam(image).mean())

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Reconstruction quality on held-out clips."""
        image = batch["video"].flatten(0, 1)
        output = self.vqgan(image)
        fake = output.reconstruction.clamp(-1, 1)
        size = len(image)
        self.log("val/l1", (image - fake).abs().mean(), batch_size=size, sync_dist=True)
        decibels = psnr(as_uint8(fake), as_uint8(image)).mean().float()
        self.log("val/psnr", decibels, prog_bar=True, batch_size=size, sync_dist=True)
        height, width = image.shape[-2:]
        box = region_box(batch["landmarks"].flatten(0, 1), height, width, "mouth")
        self.log("val/mouth", weighted_l1(fake, image, box), batch_size=size, sync_dist=True)
        self.log("val/seam", seam(fake.float()).mean(), batch_size=size, sync_dist=True)
        self.held_out_code_use.update(output.codes, self.vqgan.quantize.codes)

    def on_validation_epoch_end(self) -> None:
        """Codes that the held-out clips used."""
        self.log_dict({f"val/{name}": value for name, value in self.held_out_code_use.compute().items()})
        self.held_out_code_use.reset()

    @torch.no_grad()
    def sample(self, video: Tensor) -> Tensor:
        """``(t, 3, h, w)`` → its reconstruction, for the sample videos."""
        return self(video).clamp(-1, 1)

    def configure_optimizers(self) -> Any:
        """Generator's and discriminator's optimiser, with their schedules."""
        generator = self.optimizer([p for p in self.vqgan.parameters() if p.requires_grad])
        discriminator = self.discriminator_optimizer(self.discriminator.parameters())
        optimizers = [generator, discriminator]
        return with_schedules(optimizers, self.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the counters; leave frozen experts out."""
        checkpoint["batches"] = self.batches
        checkpoint["code_counts"] = self.code_use.counts
        weights = checkpoint["state_dict"]
        for key in [key for key in weights if key.startswith(("perceptual.", "identity."))]:
            del weights[key]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.batches = checkpoint["batches"]
        self.code_use.counts = checkpoint["code_counts"]


class CodeUse:
    """How many codes of each codebook have been used since the last reset, and how evenly."""

    def __init__(self) -> None:
        self.counts: Tensor | None = None

    def reset(self) -> None:
        """Forget."""
        self.counts = None

    @torch.no_grad()
    def update(self, codes: Tensor, size: int) -> None:
        """Count ``codes`` ``(b, h, w)`` of codebooks with ``size`` entries, upper and lower half apart."""
        counts = torch.stack([half.flatten().bincount(minlength=size) for half in codes.chunk(2, dim=1)])
        self.counts = counts if self.counts is None else self.counts + counts

    def compute(self) -> dict[str, Tensor]:
        """``active_codes_upper``, ``perplexity_upper`` and the same of the lower half."""
        if self.counts is None:
            return {}
        result: dict[str, Tensor] = {}
        for name, counts in zip(("upper", "lower"), self.counts, strict=True):
            frequency = counts.double() / counts.sum()
            result[f"active_codes_{name}"] = (counts > 0).sum().float()
            result[f"perplexity_{name}"] = torch.special.entr(frequency).sum().exp().float()
        return result
