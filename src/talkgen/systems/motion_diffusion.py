"""DisentTalk's motion stage: diffusion of a face's motion, told by its speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from talkgen.diffusion.gaussian import GaussianDiffusion, stratified_timesteps
from talkgen.diffusion.sampler import Sampler
from talkgen.errors import TalkgenError
from talkgen.face3d.motion_statistics import MotionStatistics
from talkgen.global_batch import draw_rows, mean_over_processes, normal_like, uniform
from talkgen.losses.motion import motion_errors, region_weights
from talkgen.losses.motion_sync import MotionSyncLoss
from talkgen.losses.weights import MotionWeights
from talkgen.metrics.mouth_opening import pearson
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.motion_codec import RegionCodec
from talkgen.models.disenttalk.motion_space import MotionSpace, MouthGeometry
from talkgen.models.disenttalk.sampling import Guidance, sample_window
from talkgen.models.experts.motion_syncnet import MotionSyncNet
from talkgen.systems.augmentation import FeatureAugmentation
from talkgen.systems.gradient_clip import ClippedSystem
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule


@dataclass(frozen=True)
class Conditions:
    """What the network is told, in training.

    Attributes:
        dropped: share of windows that hear nothing, so that guidance has both answers.
        carried: most frames that a window may begin with; as many as are carried over in use.
        carried_share: share of windows that begin with any.
    """

    dropped: float = 0.1
    carried: int = 10
    carried_share: float = 0.5


class MotionDiffusionSystem(ClippedSystem):
    """L = Σ_r w_r ‖z_r − ẑ_r‖² + λ_v ‖Δz − Δẑ‖² + λ_s ‖Δ³ẑ‖² + λ_l ‖landmarks‖² + 0.01 L_sync(ẑ_lip, A)

    with ẑ = ẑ₀(z_t, t, A): what the network predicts is the clean motion itself. z are the numbers of
    ``MotionSpace``, or latents of a ``codec`` that was trained before; then all terms but the first are on
    what it decodes.

    Validation measures the prediction at fixed timesteps (``val/motion``, and ``val/lip``, ``val/eye``,
    ``val/rest`` of the regions), and samples the first batch with its own sound and with that of another
    window: ``val/opening``, ``val/opening_other`` are correlations of the gap between the lips with the
    truth, ``val/amplitude`` the ratio of its deviation.

    Args:
        denoiser: the network that is trained.
        space: what makes motion numbers of unit variance.
        statistics: of the corpus, which fill ``space``.
        diffusion: schedule, and what the network predicts.
        sampler: for validation.
        weights: of the terms; a term of weight 0 is not computed.
        optimizer: makes the optimiser from the parameters.
        conditions: see there.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        expert: trained; frozen here. None leaves the sync loss out.
        geometry: what the expert sees of the lips.
        codec: trained; frozen here. None: z itself is diffused.
        augmentation: of what is heard, in training.
        min_snr: γ of min-SNR weighting; None weighs every timestep alike.
        guidance: of the samples in validation.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        sampled_batches: validation batches that are sampled.
    """

    def __init__(
        self,
        denoiser: MotionDenoiser,
        space: MotionSpace,
        statistics: MotionStatistics,
        diffusion: GaussianDiffusion,
        sampler: Sampler,
        weights: MotionWeights,
        optimizer: OptimizerPartial,
        conditions: Conditions | None = None,
        learning_rate: SchedulePartial | None = None,
        expert: MotionSyncNet | None = None,
        geometry: MouthGeometry = "subspace",
        codec: RegionCodec | None = None,
        augmentation: FeatureAugmentation | None = None,
        min_snr: float | None = None,
        guidance: Guidance | None = None,
        gradient_clip: float = 1.0,
        sampled_batches: int = 1,
    ) -> None:
        super().__init__()
        sizes = space.sizes if codec is None else codec.latent_sizes
        if denoiser.sizes != tuple(sizes):
            raise TalkgenError(f"the denoiser takes {denoiser.sizes} numbers of the regions, not {sizes}")
        if weights.sync and expert is None:
            raise TalkgenError("weights.sync needs an expert: sync_expert=RUN, or weights.sync=0")
        if expert is not None and expert.audio_dim != denoiser.audio_dim:
            raise TalkgenError(
                f"the sync expert hears {expert.audio_dim} numbers a frame, the denoiser "
                f"{denoiser.audio_dim}; train both with the same speech="
            )
        if len(space.sizes) == 1 and weights.sync:
            raise TalkgenError("without regions there are no lips to judge: weights.sync=0")
        space.set_from(statistics)
        self.denoiser = denoiser
        self.space = space
        self.diffusion = diffusion
        self.sampler = sampler
        self.weights = weights
        self.optimizer = optimizer
        self.conditions = conditions or Conditions()
        self.learning_rate = learning_rate
        self.sync_loss = None if expert is None or not weights.sync else MotionSyncLoss(expert)
        self.geometry: MouthGeometry = geometry
        self.codec = codec if codec is None else codec.eval().requires_grad_(False)
        self.augmentation = augmentation
        self.min_snr = min_snr
        self.guidance = guidance or Guidance()
        self.gradient_clip = gradient_clip
        self.sampled_batches = sampled_batches
        self.register_buffer("region_weight", region_weights(sizes, weights), persistent=False)

    region_weight: Tensor

    # What a batch becomes ---------------------------------------------------------------------------------

    def motion(self, batch: dict[str, Any]) -> Tensor:
        """z₀ ``(b, t, n)``."""
        z = self.space.encode(batch["expression"], batch["rest"][:, None])
        return z if self.codec is None else self.codec.encode(z).mean

    def decoded(self, latent: Tensor) -> Tensor:
        """Numbers of ``space`` of what is diffused."""
        return latent if self.codec is None else self.codec.decode(latent)

    def predict(
        self, z: Tensor, heard: Tensor, t: Tensor, known: Tensor, dropped: Tensor | None, noise: Tensor
    ) -> Tensor:
        """ẑ₀ from z with noise; frames that are known are shown clean."""
        schedule = self.diffusion.schedule
        noisy = torch.where(known[:, :, None] > 0, z, schedule.add_noise(z, noise, t))
        output = self.denoiser(noisy, t, heard, known, dropped)
        return schedule.estimate(output.float(), noisy, t, self.diffusion.prediction).x0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One timestep a window."""
        z, heard = self.motion(batch), batch["heard"]
        if self.augmentation is not None:
            heard = self.augmentation(heard)
        b, frames = z.shape[:2]
        t = draw_rows(
            lambda n, chance: stratified_timesteps(n, self.diffusion.schedule.steps, chance, z.device),
            b,
            z.device,
        )
        most = min(self.conditions.carried, frames - 1)
        count = torch.zeros(b, device=z.device)
        if most:
            count = draw_rows(
                lambda n, chance: torch.randint(1, most + 1, (n,), generator=chance, device=z.device),
                b,
                z.device,
            )
        count = count * (uniform(b, device=z.device) < self.conditions.carried_share)
        known = (torch.arange(frames, device=z.device) < count[:, None]).to(z.dtype)
        dropped = uniform(b, device=z.device) < self.conditions.dropped
        generated = self.predict(z, heard, t, known, dropped, normal_like(z))
        terms = self.terms(generated, z, known, heard, t, dropped)
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss.detach(), prog_bar=True)
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach())
        return loss

    def terms(
        self, generated: Tensor, z: Tensor, known: Tensor, heard: Tensor, t: Tensor, dropped: Tensor
    ) -> dict[str, Tensor]:
        """The terms, weighted, by name; who hears nothing is not asked to be in sync."""
        weights = self.weights
        snr = torch.ones(len(t), device=t.device)
        if self.min_snr is not None:
            snr = self.diffusion.schedule.min_snr_weight(t, "x0", self.min_snr)
        errors = motion_errors(generated, z, known, self.denoiser.sizes, self.region_weight)
        terms = {"motion": (snr * errors.motion).mean()}
        if weights.velocity:
            terms["velocity"] = weights.velocity * (snr * errors.velocity).mean()
        if weights.smoothness:
            terms["smoothness"] = weights.smoothness * errors.smoothness.mean()
        shown = torch.lerp(z, generated, (1 - known)[:, :, None])
        if weights.landmarks:
            difference = self.space.landmarks(self.decoded(shown) - self.decoded(z)) / 0.1
            terms["landmarks"] = weights.landmarks * difference.square().sum((2, 3)).mean()
        hears = ~dropped
        share = hears.float().mean()
        everywhere = mean_over_processes(share)  # the mean over those who hear, on all processes
        if self.sync_loss is not None and bool(hears.any()):
            mouth = self.space.mouth(self.decoded(shown), self.geometry)
            said = self.sync_loss(mouth[hears], heard[hears])
            terms["sync"] = weights.sync * (share / everywhere) * said
        return terms

    # Validation -------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Errors at fixed timesteps with fixed noise, and samples."""
        z, heard = self.motion(batch), batch["heard"]
        generator = torch.Generator().manual_seed(batch_idx)
        known = z.new_zeros(z.shape[:2])
        total = []
        for share in (0.2, 0.5, 0.8):
            t = torch.full((len(z),), round(share * (self.diffusion.schedule.steps - 1)), device=z.device)
            noise = torch.randn(z.shape, generator=generator).to(z)
            generated = self.predict(z, heard, t, known, None, noise)
            total.append(motion_errors(generated, z, known, self.denoiser.sizes, self.region_weight))
        size = len(z)
        motion = torch.stack([errors.motion.mean() for errors in total]).mean()
        self.log("val/motion", motion, batch_size=size, prog_bar=True, sync_dist=True)
        regions = torch.stack([errors.regions.mean(0) for errors in total]).mean(0)
        for name, value in zip(self.names, regions, strict=True):
            self.log(f"val/{name}", value, batch_size=size, sync_dist=True)
        if batch_idx < self.sampled_batches:
            for name, value in self.sampled(z, heard, generator).items():
                self.log(f"val/{name}", value, batch_size=size, sync_dist=True)

    @property
    def names(self) -> Sequence[str]:
        """Of the regions."""
        return ("lip", "eye", "rest") if len(self.denoiser.sizes) == 3 else ("rest",)

    def sampled(self, z: Tensor, heard: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Measures of windows that are made from noise, with their own sound and another's."""
        truth = self.opening(z)
        measures: dict[str, float] = {}
        for name, sound in (("", heard), ("_other", heard.roll(1, 0))):
            made = sample_window(
                self.denoiser, self.diffusion, self.sampler, sound, self.guidance, generator=generator
            )
            gap = self.opening(made)
            rs = torch.tensor([pearson(a, b) for a, b in zip(gap, truth, strict=True)])
            measures[f"opening{name}"] = float(rs.nanmean().nan_to_num())
            if not name:
                measures["amplitude"] = float(gap.std(1).mean() / truth.std(1).mean().clamp_min(1e-9))
        return measures

    def opening(self, latent: Tensor) -> Tensor:
        """How far the gap between the inner lips is from its rest, decimetres, ``(b, t)`` on the CPU."""
        points = self.space.landmarks(self.decoded(latent))
        return (points[:, :, 62, 1] - points[:, :, 66, 1]).float().cpu()

    def configure_optimizers(self) -> Any:
        """One optimiser over the denoiser."""
        return with_schedule(self.optimizer(self.denoiser.parameters()), self.learning_rate)
