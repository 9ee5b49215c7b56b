"""SwapTalk's lip-sync stage: lower halves of latents from speech, with a frozen VQGAN and a sync expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from talkgen.data.windows import as_uint8
from talkgen.errors import TalkgenError
from talkgen.global_batch import draw_same, gather, mean_over_processes, own
from talkgen.losses.adversarial import AdversarialLoss
from talkgen.losses.face_swap import code_cross_entropy
from talkgen.losses.latent_sync import LatentSyncLoss
from talkgen.losses.mouth_region import mouth_cells, mouth_crop
from talkgen.losses.mouth_shape import MEASURES, mouth_shape
from talkgen.losses.weights import LipSyncWeights
from talkgen.metrics.psnr import psnr
from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.frozen import Frozen
from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.swaptalk.lip_sync import LipSync, lower_quantizer, nearest_codes
from talkgen.models.swaptalk.swapper import Swapper
from talkgen.models.vqgan.vqgan import VQGAN
from talkgen.systems.augmentation import VoiceAugmentation
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, manual_step, with_schedules


@dataclass(frozen=True)
class LipSyncSample:
    """A batch with its codes looked up.

    Attributes:
        upper: T^U ``(b, t, d, h/2, w)``.
        lower: T^B, what the result should be; no input.
        codes: indices of T^B ``(b, t, h/2, w)``; None where it has none (it came out of a face swap).
        reference: R ``(b, r, d, h, w)``.
        landmarks: ``(b, t, 68, 2)`` in pixels of decoded pictures.
    """

    upper: Tensor
    lower: Tensor
    codes: Tensor | None
    reference: Tensor
    landmarks: Tensor


class LipSyncSystem(LightningModule):
    """L = w_code L_code(T̂^B, T^B) + w_sync L_sync(expert(T̂^B, audio)) (+ options, each off at weight 0)

    The options, none of which is in the paper: the expert's embeddings of generated and true lips agree;
    a hint for the first minutes, by which the speech tokens alone must tell opening, width and height of the
    mouth (its head is thrown away); cross-entropy of codes; differences from frame to frame; and, every
    ``decode_every``-th batch, L1, perceptual distance and a discriminator on the decoded mouth, the true one
    being the decoded T. With a face-swapping module a share of the batches is swapped first, target
    and reference onto another person of the batch, as they are in use.

    Validation hears each window with its own sound and with that of another one:

    * ``val/latent``, ``val/mouth``: L1 to the truth at unit variance, everywhere and in the mouth's cells;
      ``…_copy`` is what the reference's lower half would get; ``val/psnr_mouth``, ``…_copy`` in pictures;
    * ``val/lips``: cosine between the expert's embeddings of generated and true lips; ``val/lips_other`` of
      those that another sound made;
    * ``val/sync``: share of windows whose generated lips agree better with the sound that they were made from
      than with another; ``val/sync_other``: the same of the lips that another sound made;
      ``val/sync_truth``: of the true lips.

    Args:
        lip_sync: the network that is trained.
        vqgan: trained; frozen here.
        expert: trained on the same VQGAN's latents; frozen here.
        weights: weights of the terms; a term of weight 0 is not computed.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule of each optimiser; None keeps rates constant.
        augmentation: of the voice, in training.
        mouth: further weight of the mouth's cells in L_code.
        beta: where the square of L_code ends, in standard deviations.
        code_temperature: see ``code_cross_entropy``.
        snap: generate the nearest codes; training always sees what was regressed.
        audio: key of the batch with what each frame hears: ``mel_per_frame``, or ``whisper``.
        face_swap: trained; frozen here. None: nothing is swapped.
        swapped: share of batches that are.
        decode_every: batches from one with terms on pictures to the next.
        decode_frames: frames of such a batch that are decoded.
        mouth_size: side of the mouth's crop in pixels.
        perceptual: two pictures → ``(n,)``.
        discriminator: crops → logits.
        adversarial: losses of both sides.
        discriminator_optimizer: makes the discriminator's optimiser.
        gradient_clip: largest norm of a network's gradient; 0 does not clip.
    """

    def __init__(
        self,
        lip_sync: LipSync,
        vqgan: VQGAN,
        expert: LatentSyncNet,
        weights: LipSyncWeights,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        augmentation: VoiceAugmentation | None = None,
        mouth: float = 0.0,
        beta: float = 1.0,
        code_temperature: float = 0.1,
        snap: bool = False,
        audio: str = "mel_per_frame",
        face_swap: Swapper | None = None,
        swapped: float = 0.0,
        decode_every: int = 4,
        decode_frames: int = 8,
        mouth_size: int = 48,
        perceptual: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        adversarial: AdversarialLoss | None = None,
        discriminator_optimizer: OptimizerPartial | None = None,
        gradient_clip: float = 1.0,
    ) -> None:
        super().__init__()
        for name, network in (("lip_sync", lip_sync), ("expert", expert)):
            if network.scale.dim != vqgan.dim:
                raise TalkgenError(
                    f"{name} takes latents of {network.scale.dim} channels, the VQGAN has {vqgan.dim}; "
                    "were they made at the same size?"
                )
        if weights.adversarial and (
            discriminator is None or adversarial is None or discriminator_optimizer is None
        ):
            raise TalkgenError(
                "weights.adversarial needs a discriminator, its optimiser and an adversarial loss"
            )
        if weights.perceptual and perceptual is None:
            raise TalkgenError(
                "weights.perceptual needs a perceptual distance: system=swaptalk_lip_sync_pictures"
            )
        if swapped and face_swap is None:
            raise TalkgenError("a share of swapped batches needs a face-swapping module: face_swap=RUN")
        self.automatic_optimization = False
        lip_sync.scale.set_from(codebook_vectors(vqgan))
        self.lip_sync = lip_sync
        self.frozen_vqgan = Frozen(vqgan)
        self.sync_loss = LatentSyncLoss(expert)
        self.weights = weights
        self.shape_head = nn.Linear(lip_sync.speech.size, MEASURES)
        self.standardise = nn.BatchNorm1d(MEASURES, affine=False)
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.augmentation = augmentation
        self.mouth = mouth
        self.beta = beta
        self.code_temperature = code_temperature
        self.snap = snap
        self.audio = audio
        self.frozen_swap = None if face_swap is None else Frozen(face_swap)  # type: ignore[arg-type]
        self.swapped = swapped
        self.decode_every = decode_every
        self.decode_frames = decode_frames
        self.mouth_size = mouth_size
        self.perceptual = None if perceptual is None else Frozen(perceptual)
        self.discriminator = discriminator if weights.adversarial else None
        self.adversarial = adversarial
        self.discriminator_optimizer = discriminator_optimizer
        self.gradient_clip = gradient_clip

    @property
    def vqgan(self) -> VQGAN:
        """The frozen VQGAN."""
        network = self.frozen_vqgan.module
        assert isinstance(network, VQGAN)
        return network

    @property
    def expert(self) -> LatentSyncNet:
        """The frozen expert."""
        network = self.sync_loss.expert.module
        assert isinstance(network, LatentSyncNet)
        return network

    def forward(self, upper: Tensor, reference: Tensor, heard: Tensor) -> Tensor:
        """T^U, R and what each frame hears → T̂^B; the nearest codes with ``snap``."""
        lower: Tensor = self.lip_sync(upper, reference, heard)
        if not self.snap or self.training:
            return lower
        codes = nearest_codes(self.vqgan, lower)
        latent: Tensor = lower_quantizer(self.vqgan).lookup(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        return latent

    def look_up(self, batch: dict[str, Any]) -> LipSyncSample:
        """Latents of a batch of codes."""
        upper, lower = self._latents(batch["codes"]).chunk(2, dim=3)
        codes = batch["codes"].chunk(2, dim=2)[1]
        return LipSyncSample(upper, lower, codes, self._latents(batch["reference_codes"]), batch["landmarks"])

    def _latents(self, codes: Tensor) -> Tensor:
        return self.vqgan.lookup(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    @torch.no_grad()
    def swap(self, sample: LipSyncSample) -> LipSyncSample:
        """The same windows with the face of the next sample's reference: T̃, R̃ of the authors' figure."""
        assert self.frozen_swap is not None
        frames = sample.upper.shape[1]
        whole = torch.cat([torch.cat([sample.upper, sample.lower], dim=3), sample.reference], dim=1)
        source = own(gather(sample.reference[:, :1]).roll(1, 0)).expand(-1, whole.shape[1], -1, -1, -1)
        swapped = self.frozen_swap(whole.flatten(0, 1), source.flatten(0, 1)).unflatten(0, whole.shape[:2])
        upper, lower = swapped[:, :frames].chunk(2, dim=3)
        return LipSyncSample(upper, lower, None, swapped[:, frames:], sample.landmarks)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """The network on all its terms, then (in a batch with pictures) the discriminator."""
        optimizers = self.optimizers()
        generator, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        sample, mels = self.look_up(batch), batch["mel"].unsqueeze(1)
        if self.frozen_swap is not None and (
            float(draw_same(lambda chance: torch.rand((), generator=chance), "cpu")) < self.swapped
        ):
            sample = self.swap(sample)
        heard = batch[self.audio]
        if self.augmentation is not None and self.audio == "mel_per_frame":
            voices = self.augmentation(torch.cat([heard, mels], dim=1))
            heard, mels = voices[:, :-1], voices[:, -1:]
        lower = self(sample.upper, sample.reference, heard)
        terms = self.latent_terms(lower, sample) | self.lip_terms(lower, sample, mels[:, 0])
        if self.weights.shape:
            terms["shape"] = self.shape_term(heard, sample.landmarks)
        fake = real = None
        if self.decode_every and batch_idx % self.decode_every == 0 and self._looks_at_pictures:
            fake, real = self.mouths(lower, sample)
            terms |= self.picture_terms(fake, real)
        loss = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        manual_step(self, 0, generator, loss)
        if fake is not None and real is not None and self.discriminator is not None:
            assert self.adversarial is not None
            logits = (self.discriminator(fake.detach()), self.discriminator(real))
            terms["discriminator"] = self.adversarial.discriminator_loss(*logits)
            manual_step(self, 1, others[0], terms["discriminator"])
        self.log("train/loss", loss.detach())
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), prog_bar=name == "code")
        return {"loss": loss.detach()}

    def latent_terms(self, lower: Tensor, sample: LipSyncSample) -> dict[str, Tensor]:
        """Distances to T^B, unweighted, by name."""
        made, true = self._normal(lower), self._normal(sample.lower)
        cells = 1 + self.mouth * self._cells(sample.landmarks, true)
        distance = F.smooth_l1_loss(made, true, reduction="none", beta=self.beta).mean(dim=1, keepdim=True)
        # of all processes, so that the mean of what they get is the mean over all cells
        terms = {"code": (cells * distance).sum() / mean_over_processes(cells.sum())}
        if self.weights.entropy and sample.codes is not None:
            terms["entropy"] = code_cross_entropy(
                lower.flatten(0, 1),
                sample.codes.flatten(0, 1),
                lower_quantizer(self.vqgan),
                self.code_temperature,
            ).mean()
        if self.weights.temporal:
            made, true = (x.unflatten(0, lower.shape[:2]).diff(dim=1) for x in (made, true))
            terms["temporal"] = (made - true).abs().mean()
        return terms

    def _normal(self, lower: Tensor) -> Tensor:
        return self.lip_sync.scale.normalise(lower.flatten(0, 1))

    def _cells(self, landmarks: Tensor, maps: Tensor) -> Tensor:
        rows, columns = maps.shape[-2:]
        return mouth_cells(landmarks.flatten(0, 1), rows, columns, self.vqgan.factor)

    def lip_terms(self, lower: Tensor, sample: LipSyncSample, mel: Tensor) -> dict[str, Tensor]:
        """What the expert says, unweighted, by name."""
        terms = {}
        if self.weights.sync:
            terms["sync"] = self.sync_loss(lower, mel)
        if self.weights.lips:
            with torch.no_grad():
                true = self.expert.embed_face(sample.lower)
            terms["lips"] = 1 - (self.expert.embed_face(lower) * true).sum(1).mean()
        return terms

    def shape_term(self, heard: Tensor, landmarks: Tensor) -> Tensor:
        """The hint: distance between the shape of each frame's mouth, and what tokens tell."""
        with torch.no_grad():
            shape = self.standardise(mouth_shape(landmarks.flatten(0, 1)[:, None].float()))
        told: Tensor = self.shape_head(self.lip_sync.speech(heard.flatten(0, 1)).flatten(1))
        return (told - shape).square().mean()

    @property
    def _looks_at_pictures(self) -> bool:
        return bool(self.weights.picture or self.weights.perceptual or self.weights.adversarial)

    def mouths(
        self, lower: Tensor, sample: LipSyncSample, frames: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decoded mouths ``(n, 3, s, s)``, generated and true, of frames spread over the batch."""
        total = lower.shape[0] * lower.shape[1]
        count = min(frames or self.decode_frames, total)
        chosen = torch.arange(count, device=lower.device) * total // count
        points = sample.landmarks.flatten(0, 1)[chosen]
        made, true = (
            torch.cat([sample.upper, half], dim=3).flatten(0, 1)[chosen] for half in (lower, sample.lower)
        )
        with torch.no_grad():
            real = mouth_crop(self.vqgan.decode(true), points, self.mouth_size)
        return mouth_crop(self.vqgan.decode(made), points, self.mouth_size), real

    def picture_terms(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Terms on decoded mouths, unweighted, by name."""
        terms = {}
        if self.weights.picture:
            terms["picture"] = (fake - real).abs().mean()
        if self.weights.perceptual and self.perceptual is not None:
            terms["perceptual"] = self.perceptual(fake, real).mean()
        if self.discriminator is not None and self.adversarial is not None:
            self.discriminator.requires_grad_(False)
            terms["adversarial"] = self.adversarial.generator_loss(self.discriminator(fake))
            self.discriminator.requires_grad_(True)
        return terms

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here, after a gradient scaler has taken its factor out (a manual step must do it itself)."""
        if self.gradient_clip:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out windows with their own sound, and with that of another window."""
        sample, size = self.look_up(batch), len(batch["mel"])
        other = torch.arange(size, device=batch["mel"].device).roll(max(1, size // 2))
        lower = self(sample.upper, sample.reference, batch[self.audio])
        lower_other = self(sample.upper, sample.reference, batch[self.audio][other])
        copy = sample.reference[:, :1].chunk(2, dim=3)[1].expand_as(sample.lower)
        values = {}
        true = self._normal(sample.lower)
        cells = self._cells(sample.landmarks, true)
        real_psnr = {}
        for suffix, made in (("", lower), ("_copy", copy)):
            distance = (self._normal(made) - true).abs().mean(dim=1, keepdim=True)
            values[f"latent{suffix}"] = distance.mean()
            values[f"mouth{suffix}"] = (cells * distance).sum() / cells.sum().clamp_min(1e-6)
            fake, real = (as_uint8(mouth) for mouth in self.mouths(made, sample, 2 * self.decode_frames))
            real_psnr[f"psnr_mouth{suffix}"] = psnr(fake, real).mean().float()
        expert, mel = self.expert, batch["mel"]
        audio, truth = expert(mel, sample.lower)
        face, face_other = expert.embed_face(lower), expert.embed_face(lower_other)
        values |= real_psnr
        values["lips"] = (face * truth).sum(1).mean()
        values["lips_other"] = (face_other * truth).sum(1).mean()
        own = {
            name: (x * audio).sum(1)
            for name, x in (("sync", face), ("sync_other", face_other), ("sync_truth", truth))
        }
        away = {
            name: (x * audio[other]).sum(1)
            for name, x in (("sync", face), ("sync_other", face_other), ("sync_truth", truth))
        }
        values["sync"] = _share(own["sync"] - away["sync"])
        values["sync_other"] = _share(away["sync_other"] - own["sync_other"])
        values["sync_truth"] = _share(own["sync_truth"] - away["sync_truth"])
        for name, value in values.items():
            self.log(f"val/{name}", value, prog_bar=name == "lips", batch_size=size, sync_dist=True)

    @torch.no_grad()
    def sample(self, codes: Tensor, reference_codes: Tensor, heard: Tensor) -> Tensor:
        """Codes ``(t, h, w)`` and ``(r, h, w)`` of a window and its references, what its frames hear →
        pictures ``(t, 3, height, width)`` in [-1, 1], for the sample videos.
        """
        upper = self._latents(codes[None]).chunk(2, dim=3)[0]
        lower = self(upper, self._latents(reference_codes[None]), heard[None])
        return self.vqgan.decode(torch.cat([upper, lower], dim=3).flatten(0, 1)).clamp(-1, 1)

    def configure_optimizers(self) -> Any:
        """The network's optimiser, the discriminator's where there is one, and their schedules."""
        optimizers = [self.optimizer([*self.lip_sync.parameters(), *self.shape_head.parameters()])]
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            optimizers.append(self.discriminator_optimizer(self.discriminator.parameters()))
        return with_schedules(optimizers, self.learning_rate)


def _share(difference: Tensor) -> Tensor:
    """Share of positive numbers; zeros count half."""
    return ((difference > 0).float() + 0.5 * (difference == 0).float()).mean()
