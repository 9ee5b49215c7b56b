"""SwapTalk's second stage: the face-swapping module, in the latent space of a frozen VQGAN."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from talkgen.data.swap_pairs import KINDS
from talkgen.data.windows import as_uint8
from talkgen.errors import TalkgenError
from talkgen.losses.face_swap import code_cross_entropy, identity_distance, latent_distance, mean_where
from talkgen.losses.identity import IdentityLoss
from talkgen.losses.weights import FaceSwapWeights
from talkgen.metrics.psnr import psnr
from talkgen.models.frozen import Frozen
from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.swaptalk.identity_head import LatentIdentityHead
from talkgen.models.swaptalk.swapper import Swapper
from talkgen.models.vqgan.vqgan import VQGAN
from talkgen.systems.gradient_clip import ClippedSystem
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule

SAME, FREE = KINDS.index("same"), KINDS.index("free")
HELD_OUT = (
    *("distance", "proxy", "reconstruction", "psnr", "psnr_same"),
    *(
        f"{recogniser}_{who}"
        for recogniser in ("identity", "judge")
        for who in ("source", "target", "before")
    ),
)
"""What validation measures: distances to labels (of all samples that have one, of swaps, of the same person)
as latents and as pictures (dB); cosines of swapped picture and source, swapped picture and target, target and
source, by the recogniser of the loss and by another."""


@dataclass(frozen=True)
class SwapSample:
    """A batch of ``SwapPairs`` with its codes looked up; latents are ``(b, d, h, w)``.

    Attributes:
        target: T_VQ.
        source: S_VQ.
        label: Res_VQ, or what else the result should be.
        label_codes: its codes ``(b, h, w)``.
        labelled: bool ``(b,)``: there is a label.
        same: bool ``(b,)``: source and target are one person.
        target_warp: ``(b, 2, 3)``, pixels of the swapped picture → recogniser's template.
        source_warp: the same of the source.
        source_identity: ``(b, 512)``, the source's direction; zeros where it is not known.
    """

    target: Tensor
    source: Tensor
    label: Tensor
    label_codes: Tensor
    labelled: Tensor
    same: Tensor
    target_warp: Tensor
    source_warp: Tensor
    source_identity: Tensor


class FaceSwapSystem(ClippedSystem):
    """L = w_proxy L_proxy + w_rec L_rec + w_src L_id_src + w_res L_id_res (+ w_code L_code), each over the
    samples that it concerns:

    * L_proxy(T̂_VQ, Res_VQ) where a teacher gave label or target, L_rec where source and target are the same;
    * L_id_src(S, T̂) everywhere, L_id_res(T̂, Res) where there is a label. Every ``decode_every``-th batch
      identity is what the recogniser sees in the decoded picture, as published; in between it is what the
      latent head says, at a fraction of the cost. Without a head there is no such loss in between.

    Args:
        face_swap: the network that is trained.
        vqgan: trained; frozen here.
        weights: weights of the terms; a term of weight 0 is not computed.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        identity: the recogniser that the loss is made with; None trains without identity losses.
        identity_head: its distilled form (trained; frozen here); None decodes every time.
        judge: another recogniser, for validation alone: one that the loss was made with is deceived by what
            the loss teaches.
        decode_every: batches from one decoded identity loss to the next; 0 leaves all to the head.
        decode_samples: samples of such a batch that are decoded; None: all.
        code_temperature: see ``code_cross_entropy``.
        gradient_clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(
        self,
        face_swap: nn.Module,
        vqgan: VQGAN,
        weights: FaceSwapWeights,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        identity: IdentityLoss | None = None,
        identity_head: LatentIdentityHead | None = None,
        judge: IdentityLoss | None = None,
        decode_every: int = 1,
        decode_samples: int | None = None,
        code_temperature: float = 0.1,
        gradient_clip: float = 1.0,
    ) -> None:
        super().__init__()
        self.face_swap: Swapper = face_swap  # type: ignore[assignment]
        for name, network in (("face_swap", self.face_swap), ("identity_head", identity_head)):
            if network is not None and network.dim != vqgan.dim:
                raise TalkgenError(
                    f"{name} takes latents of {network.dim} channels, the VQGAN has {vqgan.dim}; "
                    "were they trained at the same size?"
                )
        if decode_every < 0:
            raise ValueError(f"decode_every is a number of batches, not {decode_every}")
        self.face_swap.scale.set_from(codebook_vectors(vqgan))
        self.frozen_vqgan = Frozen(vqgan)
        self.weights = weights
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.identity = identity
        self.frozen_head = None if identity_head is None else Frozen(identity_head)
        self.judge = judge
        self.decode_every = decode_every
        self.decode_samples = decode_samples
        self.code_temperature = code_temperature
        self.gradient_clip = gradient_clip
        self.held_out = nn.ModuleDict({name: MeanMetric() for name in HELD_OUT})

    @property
    def vqgan(self) -> VQGAN:
        """The frozen VQGAN."""
        network = self.frozen_vqgan.module
        assert isinstance(network, VQGAN)
        return network

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Latents ``(b, d, h, w)`` of target and source → swapped latents."""
        return self.face_swap(target, source)

    def look_up(self, batch: dict[str, Any]) -> SwapSample:
        """Latents of a batch of codes."""
        kind = batch["kind"]
        target, source, label = (
            self.vqgan.lookup(batch[f"{name}_codes"]) for name in ("target", "source", "label")
        )
        return SwapSample(
            target, source, label, batch["label_codes"], kind != FREE, kind == SAME,
            batch["target_warp"], batch["source_warp"], batch["source_identity"],
        )  # fmt: skip

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """All terms of one batch."""
        sample = self.look_up(batch)
        swapped = self(sample.target, sample.source)
        terms = self.latent_terms(swapped, sample) | self.identity_terms(swapped, sample, batch_idx)
        loss = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        self.log("train/loss", loss.detach())
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), prog_bar=name == "proxy")
        return loss

    def latent_terms(self, swapped: Tensor, sample: SwapSample) -> dict[str, Tensor]:
        """Distances to the label, unweighted, by name."""
        distance = latent_distance(swapped, sample.label, self.face_swap.scale)
        terms = {
            "proxy": mean_where(distance, sample.labelled & ~sample.same),
            "reconstruction": mean_where(distance, sample.same),
        }
        if self.weights.codes:
            entropy = code_cross_entropy(
                swapped, sample.label_codes, self.vqgan.quantize, self.code_temperature
            )
            terms["codes"] = mean_where(entropy, sample.labelled)
        return terms

    def identity_terms(self, swapped: Tensor, sample: SwapSample, batch_idx: int) -> dict[str, Tensor]:
        """Identity losses of this batch, unweighted, by name."""
        weights = self.weights
        if self.identity is None or not (weights.identity_source or weights.identity_label):
            return {}
        decoded = bool(self.decode_every) and batch_idx % self.decode_every == 0
        if not decoded and self.frozen_head is None:
            return {}
        rows = slice(self.decode_samples if decoded else None)
        warp = sample.target_warp[rows]
        directions = self._directions(swapped[rows], warp, decoded)
        terms = {}
        if weights.identity_source:
            wanted = sample.source_identity[rows]
            unknown = ~wanted.any(dim=1)
            if unknown.any():
                with torch.no_grad():
                    seen = self._directions(sample.source[rows], sample.source_warp[rows], decoded)
                wanted = torch.where(unknown[:, None], seen, wanted)
            terms["identity_source"] = identity_distance(directions, wanted).mean()
        if weights.identity_label:
            with torch.no_grad():
                wanted = self._directions(sample.label[rows], warp, decoded)
            terms["identity_label"] = mean_where(identity_distance(directions, wanted), sample.labelled[rows])
        if decoded:
            self.log_dict({f"train/{name}_decoded": term.detach() for name, term in terms.items()})
        return terms

    def _directions(self, latent: Tensor, warp: Tensor, decoded: bool) -> Tensor:
        if decoded and self.identity is not None:
            return self.identity.embed(self.vqgan.decode(latent), warp)
        assert self.frozen_head is not None
        directions: Tensor = self.frozen_head(latent)
        return directions

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How far from the labels, as latents and as pictures; and who is seen, source or target."""
        sample = self.look_up(batch)
        swapped = self(sample.target, sample.source)
        distance = latent_distance(swapped, sample.label, self.face_swap.scale)
        picture, label = (self.vqgan.decode(latent).clamp(-1, 1) for latent in (swapped, sample.label))
        decibels = psnr(as_uint8(picture), as_uint8(label)).float()
        taught = sample.labelled & ~sample.same
        self._note("distance", distance, sample.labelled)
        self._note("proxy", distance, taught)
        self._note("reconstruction", distance, sample.same)
        self._note("psnr", decibels, taught)
        self._note("psnr_same", decibels, sample.same)
        recognisers = {"identity": self.identity, "judge": self.judge}
        if any(recognisers.values()):
            source, target = (self.vqgan.decode(latent) for latent in (sample.source, sample.target))
        for name, recogniser in recognisers.items():
            if recogniser is None:
                continue
            seen = recogniser.embed(picture, sample.target_warp)
            wanted = recogniser.embed(source, sample.source_warp)
            before = recogniser.embed(target, sample.target_warp)
            self._note(f"{name}_source", (seen * wanted).sum(1), ~sample.same)
            self._note(f"{name}_target", (seen * before).sum(1), ~sample.same)
            self._note(f"{name}_before", (before * wanted).sum(1), ~sample.same)

    def _note(self, name: str, values: Tensor, mask: Tensor) -> None:
        average = self.held_out[name]
        assert isinstance(average, MeanMetric)
        average.update(values[mask])

    def on_validation_epoch_end(self) -> None:
        """Means over the samples that each number concerns; nothing where there were no such samples."""
        for name, average in self.held_out.items():
            assert isinstance(average, MeanMetric)
            mean = average.compute() if average.update_called else torch.nan
            if math.isfinite(mean):
                self.log(f"val/{name}", mean, prog_bar=name == "proxy")
            average.reset()

    @torch.no_grad()
    def pictures(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``source``, ``target``, ``swapped`` and ``label``, uint8 ``(b, height, width, 3)``, for samples."""
        sample = self.look_up(batch)
        latents = {
            "source": sample.source,
            "target": sample.target,
            "swapped": self(sample.target, sample.source),
            "label": sample.label,
        }
        return {name: as_uint8(self.vqgan.decode(latent)) for name, latent in latents.items()}

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which steps after every batch."""
        optimizer = self.optimizer(self.face_swap.parameters())  # type: ignore[attr-defined]
        return with_schedule(optimizer, self.learning_rate)
