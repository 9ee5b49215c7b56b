"""Diff2Lip's training stage: denoise the lower half of faces so that the lips say what is heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from talkgen.data.windows import as_uint8
from talkgen.diffusion.gaussian import stratified_timesteps
from talkgen.diffusion.sampler import Sampler
from talkgen.errors import TalkgenError
from talkgen.global_batch import draw_rows
from talkgen.losses.denoising import (
    DenoisingLoss,
    DenoisingTerms,
    TermTimesteps,
    active_mean,
    squared_error,
)
from talkgen.losses.lip_sync import SyncLoss
from talkgen.losses.mouth_shape import MEASURES, mouth_shape
from talkgen.losses.sequence_adversarial import SequenceAdversarialLoss
from talkgen.losses.weights import Diff2LipWeights
from talkgen.metrics.psnr import psnr
from talkgen.models.diff2lip.inpainting import hide, inpaint, lower_mask
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.models.experts.syncnet import SyncNet, syncnet_input
from talkgen.systems.augmentation import VoiceAugmentation
from talkgen.systems.diff2lip_windows import Windows, read_windows
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, manual_step, with_schedules
from talkgen.systems.vqgan import AdversarialSchedule


@dataclass(frozen=True)
class Denoised:
    """Windows denoised from one timestep each.

    Attributes:
        terms: errors of the prediction.
        timestep: ``(b,)``.
        generated: ``(b·t, 3, h, w)``: the estimate inside the mask, in [-1, 1]; the target outside.
        heard: the embedded sound of each frame, ``(b·t, e)``.
    """

    terms: DenoisingTerms
    timestep: Tensor
    generated: Tensor
    heard: Tensor


class Diff2LipSystem(LightningModule):
    """L = L_simple + L_vlb + λ_l2 L_2(x̂₀) + λ_lpips L_lpips(x̂₀) + λ_sync L_sync(x̂₀) + λ_gan L_gan(x̂₀)

    with x̂₀ the picture that follows from the predicted noise in one step (Diff2Lip, eq. 9). The authors
    published neither this code nor these choices: all frames of a window have one timestep, so that terms on
    windows see frames of one quality; one noise map, as in use; and what hides the target is noise of its
    own, or the network could read ε off its input.

    Validation measures the prediction at fixed timesteps (``val/noise``) and, in the first batches, samples
    each window with its own sound and with that of another one:

    * ``val/psnr_mask``: PSNR inside the mask; ``…_copy`` is what the reference gets there;
    * ``val/lips``: cosine between the expert's embeddings of generated and true lips; ``…_other`` of those
      that another sound made;
    * ``val/sync``: what the expert says of generated lips, its loss; ``…_other`` of those that another sound
      made, with the window's own sound; ``…_truth`` of true lips.

    Args:
        unet: the network that is trained.
        loss: what it is taught of the noise; knows what its output means.
        sampler: for validation and sample videos.
        weights: weights of the terms; a term of weight 0 is not computed.
        optimizer: makes the optimiser from the parameters.
        timesteps: at which each term on x̂₀ acts.
        learning_rate: makes the learning rate schedule of each optimiser; None keeps rates constant.
        perceptual: two pictures → ``(n,)``; None leaves the term out.
        sync: the frozen expert's loss; None leaves the term out.
        sequence: the discriminator's and its victim's loss; None leaves the term out.
        discriminator_optimizer: makes the discriminator's optimiser.
        schedule: when the adversarial term acts.
        augmentation: of the voice, in training.
        share: of the rows that are generated, from below.
        mouth: weight of squared errors in the mouth's box, in the first two terms; 1 as published.
        noisier: γ of the timesteps t = T u^(1/γ) that training draws, u uniform; 1 as published. Lips can be
            seen through little noise: only noisy timesteps teach the network to listen.
        shared_noise: one noise map for all frames of a window; False draws one for each.
        gradient_clip: largest norm of a network's gradient; 0 does not clip.
        sampled_batches: validation batches that are sampled.
    """

    mask: Tensor

    def __init__(
        self,
        unet: Diff2LipUNet,
        loss: DenoisingLoss,
        sampler: Sampler,
        weights: Diff2LipWeights,
        optimizer: OptimizerPartial,
        timesteps: TermTimesteps | None = None,
        learning_rate: SchedulePartial | None = None,
        perceptual: nn.Module | None = None,
        sync: SyncLoss | None = None,
        sequence: SequenceAdversarialLoss | None = None,
        discriminator_optimizer: OptimizerPartial | None = None,
        schedule: AdversarialSchedule | None = None,
        augmentation: VoiceAugmentation | None = None,
        share: float = 0.5,
        mouth: float = 1.0,
        noisier: float = 1.0,
        shared_noise: bool = True,
        gradient_clip: float = 1.0,
        sampled_batches: int = 1,
    ) -> None:
        super().__init__()
        if loss.diffusion.learned_range != unet.learned_range:
            raise TalkgenError("learned_range of the network and of the diffusion must be the same")
        adversarial = bool(weights.adversarial and sequence is not None)
        if adversarial and discriminator_optimizer is None:
            raise TalkgenError("the adversarial term needs a discriminator_optimizer")
        self.automatic_optimization = False
        self.unet = unet
        self.loss = loss
        self.sampler = sampler
        self.weights = weights
        self.optimizer = optimizer
        self.timesteps = timesteps or TermTimesteps()
        self.learning_rate = learning_rate
        self.perceptual = perceptual if weights.perceptual else None
        self.sync = sync
        self.sequence = sequence if adversarial else None
        self.discriminator_optimizer = discriminator_optimizer
        self.schedule = schedule or AdversarialSchedule(start=0)
        self.augmentation = augmentation
        self.mouth = mouth
        self.noisier = noisier
        self.shape_head = nn.Linear(unet.embedding_dim, MEASURES) if weights.shape else None
        self.standardise = nn.BatchNorm1d(MEASURES, affine=False) if weights.shape else None
        self.shared_noise = shared_noise
        self.gradient_clip = gradient_clip
        self.sampled_batches = sampled_batches
        self.batches = 0
        self.register_buffer("mask", lower_mask(unet.image_size, share), persistent=False)

    # What a batch becomes ---------------------------------------------------------------------------------

    def windows(self, batch: dict[str, Any]) -> Windows:
        """Take a batch apart; in training with another voice."""
        return read_windows(batch, self.unet.references, self.augmentation if self.training else None)

    def denoise(
        self, windows: Windows, timestep: Tensor, generator: torch.Generator | None = None
    ) -> Denoised:
        """Add noise, and take it off in one step."""
        target = windows.target
        t = timestep.repeat_interleave(windows.frames)
        noise, cover = (windows.noise(self.shared_noise, generator) for _ in range(2))
        noisy = self.loss.diffusion.schedule.add_noise(target, noise, t)
        heard = self.unet.embed_audio(windows.heard)
        output = self.unet.denoise(
            noisy,
            self.unet.embed_time(t) + heard,
            hide(target, self.mask, cover),
            self.mask,
            windows.reference,
        )
        terms = self.loss(output, target, noise, noisy, t, self.mask, windows.mouth_weight(self.mouth))
        return Denoised(terms, timestep, torch.lerp(target.float(), terms.x0, self.mask), heard)

    # Training ---------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """The network on all its terms, then the discriminator on the same windows."""
        optimizers = self.optimizers()
        generator, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        windows = self.windows(batch)
        steps = self.loss.diffusion.schedule.steps

        def draw(count: int, generator: torch.Generator | None) -> Tensor:
            return stratified_timesteps(count, steps, generator, self.device, self.noisier)

        timestep = draw_rows(draw, len(batch["video"]), self.device)
        with self.toggled_optimizer(generator):
            denoised = self.denoise(windows, timestep)
            terms = self.generator_terms(windows, denoised)
            loss = torch.stack([self.weight(name) * term for name, term in terms.items()]).sum()
            manual_step(self, 0, generator, loss)
        if others and self.batches >= self.schedule.discriminator_start:
            with self.toggled_optimizer(others[0]):
                terms["discriminator"] = self.discriminator_term(windows, denoised)
                manual_step(self, 1, others[0], terms["discriminator"])
        self.batches += 1
        self.log("train/loss", loss.detach())
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), prog_bar=name == "noise")
        return {"loss": loss.detach()}

    def weight(self, term: str) -> float:
        """What a term counts now."""
        weight: float = getattr(self.weights, term)
        return weight * self.schedule.factor(self.batches) if term == "adversarial" else weight

    def generator_terms(self, windows: Windows, denoised: Denoised) -> dict[str, Tensor]:
        """The unweighted terms that act now, by name."""
        frames, t = windows.frames, denoised.timestep
        generated, target = denoised.generated, windows.target.float()
        terms = {"noise": denoised.terms.noise}
        if denoised.terms.variational is not None and self.weights.variational:
            terms["variational"] = denoised.terms.variational
        if self.weights.l2:
            active = self.timesteps.active("l2", t).repeat_interleave(frames)
            error = squared_error(generated, target, self.mask, windows.mouth_weight(self.mouth))
            terms["l2"] = active_mean(error, active)
        if self.shape_head is not None:
            terms["shape"] = self.shape_term(denoised.heard, windows.landmarks)
        if self.perceptual is not None:
            active = self.timesteps.active("perceptual", t).repeat_interleave(frames)
            terms["perceptual"] = self._share(active) * (
                self.perceptual(generated[active], target[active]).mean() if active.any() else 0
            )
        active = self.timesteps.active("sync", t)
        if self.sync is not None and self.weights.sync and active.any():
            video = windows.in_windows(generated)[active]
            said = self.sync(video, windows.mel[active], windows.landmarks[active])
            terms["sync"] = self._share(active) * said
        if self.sequence is not None and self.schedule.factor(self.batches):
            active, share = self._judged(t)
            terms["adversarial"] = share * self.sequence.generator_loss(windows.in_windows(generated)[active])
        return terms

    def shape_term(self, heard: Tensor, landmarks: Tensor) -> Tensor:
        """A hint for the first minutes, not in the paper: the embedded sound alone must tell opening, width
        and height of each frame's mouth, by a linear head that is thrown away.
        """
        assert self.shape_head is not None and self.standardise is not None
        with torch.no_grad():
            shape = self.standardise(mouth_shape(landmarks.flatten(0, 1)[:, None].float()))
        told: Tensor = self.shape_head(heard)
        return (told.float() - shape).square().mean()

    def discriminator_term(self, windows: Windows, denoised: Denoised) -> Tensor:
        """Of the windows at whose timesteps the adversarial term acts."""
        assert self.sequence is not None
        active, share = self._judged(denoised.timestep)
        fake, real = (windows.in_windows(x)[active] for x in (denoised.generated, windows.target.float()))
        return share * self.sequence.discriminator_loss(fake, real)

    @staticmethod
    def _share(active: Tensor) -> Tensor:
        return active.float().mean()

    def _judged(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Windows that the discriminator sees, and their share. Where there are none it sees one that counts
        nothing: under DDP every process must step.
        """
        active = self.timesteps.active("adversarial", timestep)
        share = self._share(active)
        return (active, share) if active.any() else (torch.arange(len(active)) == 0, share)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here, after a gradient scaler has taken its factor out (a manual step must do it itself)."""
        if self.gradient_clip:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")

    # Validation -------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """The prediction at fixed timesteps with fixed noise; the first batches are sampled as well."""
        windows, size = self.windows(batch), len(batch["video"])
        generator = torch.Generator(self.device).manual_seed(batch_idx)
        steps = self.loss.diffusion.schedule.steps
        timestep = stratified_timesteps(size, steps, generator, self.device)
        values = {"noise": self.denoise(windows, timestep, generator).terms.noise}
        if batch_idx < self.sampled_batches:
            values |= self._sampled(windows, generator)
        for name, value in values.items():
            self.log(f"val/{name}", value, prog_bar=name == "noise", batch_size=size, sync_dist=True)

    def _sampled(self, windows: Windows, generator: torch.Generator) -> dict[str, Tensor]:
        noises = windows.noise(self.shared_noise, generator), windows.noise(self.shared_noise, generator)
        heard = windows.in_windows(windows.heard)
        other = heard.roll(max(1, len(heard) // 2), 0).flatten(0, 1)
        target, reference = windows.target, windows.reference
        made = self._inpaint(target, reference, windows.heard, *noises)
        made_other = self._inpaint(target, reference, other, *noises)
        top = int((self.mask[0, 0, :, 0] == 0).sum())
        values = {
            f"psnr_mask{suffix}": psnr(as_uint8(x[:, :3, top:]), as_uint8(target[:, :, top:])).mean().float()
            for suffix, x in (("", made), ("_copy", reference))
        }
        if self.sync is None:
            return values
        shown = {"": made, "_other": made_other, "_truth": target}
        videos = {suffix: windows.in_windows(x.float()) for suffix, x in shown.items()}
        for suffix, video in videos.items():
            values[f"sync{suffix}"] = self.sync(video, windows.mel, windows.landmarks)
        lips = {suffix: self._embed(video, windows.landmarks) for suffix, video in videos.items()}
        for suffix in ("", "_other"):
            values[f"lips{suffix}"] = (lips[suffix] * lips["_truth"]).sum(1).mean()
        return values

    def _embed(self, video: Tensor, landmarks: Tensor) -> Tensor:
        """What the expert sees in windows."""
        assert self.sync is not None
        expert = self.sync.expert.module
        assert isinstance(expert, SyncNet)
        seen = video if self.sync.view is None else self.sync.view(video, landmarks)
        return expert.embed_face(syncnet_input(seen, self.sync.channel_order))

    def _inpaint(
        self, target: Tensor, reference: Tensor, heard: Tensor, noise: Tensor, cover: Tensor
    ) -> Tensor:
        return inpaint(
            self.unet, self.loss.diffusion, self.sampler, target, reference, heard, self.mask, noise,
            cover=cover,
        )  # fmt: skip

    @torch.no_grad()
    def sample(self, video: Tensor, reference: Tensor, heard: Tensor) -> Tensor:
        """Frames ``(t, 3, h, w)`` of one clip, its references ``(references, 3, h, w)`` and what each frame
        hears ``(t, 1, 80, 16)`` → generated, for the sample videos. The noise is always the same.
        """
        generator = torch.Generator(self.device).manual_seed(0)
        noise, cover = torch.randn(2, 1, *video.shape[1:], generator=generator, device=self.device)
        references = reference.flatten(0, 1).expand(len(video), -1, -1, -1)
        return self._inpaint(video, references, heard, noise, cover)

    # The rest ---------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """The network's optimiser, the discriminator's where there is one, and their schedules."""
        head = [] if self.shape_head is None else self.shape_head.parameters()
        optimizers = [self.optimizer([*self.unet.parameters(), *head])]
        if self.sequence is not None and self.discriminator_optimizer is not None:
            optimizers.append(self.discriminator_optimizer(self.sequence.parameters()))
        return with_schedules(optimizers, self.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the counter."""
        checkpoint["batches"] = self.batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.batches = checkpoint["batches"]
