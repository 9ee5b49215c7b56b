"""Distil recogniser ∘ decoder into a small network on latents, for the face-swapping module's losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from talkgen.errors import TalkgenError
from talkgen.global_batch import draw_rows, gather, normal_like, own, uniform
from talkgen.losses.identity import IdentityLoss
from talkgen.models.frozen import Frozen
from talkgen.models.layers.latent_scale import codebook_vectors
from talkgen.models.swaptalk.identity_head import LatentIdentityHead
from talkgen.models.vqgan.vqgan import VQGAN
from talkgen.systems.gradient_clip import ClippedSystem
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule


@dataclass(frozen=True)
class Lessons:
    """How a teacher's answers are used. The teacher (decoder and recogniser) costs many times what the head
    does, so each of its answers is learned from several times.

    Args:
        kept: answers that are remembered, the latest ones; 0 learns from those of the batch alone.
        batch: answers that a step learns from, drawn from those that are remembered.
        mixed: share of the pictures that are put together from two people, cell by cell in rectangles: a
            swap under way is neither of the two either.
        noise: deviation of the noise on latents, in units of their own: what a network regresses lies
            between codes.
    """

    kept: int = 4096
    batch: int = 64
    mixed: float = 0.5
    noise: float = 0.3

    def __post_init__(self) -> None:
        if self.kept < 0 or self.batch < 1 or not 0 <= self.mixed <= 1 or self.noise < 0:
            raise ValueError(f"these are no lessons: {self}")


class IdentityHeadSystem(ClippedSystem):
    """min 1 − cos(head(z), E(warp(D(z)))) over latents z of frames, of mixed frames, and with noise.

    Validation, on people who were not seen: the mean cosine of head and teacher, and how often both name the
    same nearest person among those of the training split. The gradients of a loss made with the head are only
    as good as the order in which the head puts people.

    Args:
        identity_head: the network that is trained.
        vqgan: trained; frozen here.
        identity: the recogniser E.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        lessons: see there.
        gradient_clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(
        self,
        identity_head: LatentIdentityHead,
        vqgan: VQGAN,
        identity: IdentityLoss,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        lessons: Lessons | None = None,
        gradient_clip: float = 1.0,
    ) -> None:
        super().__init__()
        if identity_head.dim != vqgan.dim:
            raise TalkgenError(
                f"identity_head takes latents of {identity_head.dim} channels, the VQGAN has {vqgan.dim}; "
                "were they meant for the same size?"
            )
        self.identity_head = identity_head
        self.identity_head.scale.set_from(codebook_vectors(vqgan))
        self.frozen_vqgan = Frozen(vqgan)
        self.identity = identity
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lessons = lessons or Lessons()
        self.gradient_clip = gradient_clip
        self.remembered = Answers(self.lessons.kept)
        self.gallery: dict[int, Tensor] = {}  # person → sum of the teacher's directions
        self._held_out: list[tuple[Tensor, Tensor]] = []

    @property
    def vqgan(self) -> VQGAN:
        """The frozen VQGAN."""
        network = self.frozen_vqgan.module
        assert isinstance(network, VQGAN)
        return network

    @torch.no_grad()
    def teach(self, codes: Tensor, warp: Tensor) -> Tensor:
        """The teacher's directions ``(b, e)`` for codes ``(b, h, w)`` and matrices ``(b, 2, 3)``."""
        return self.identity.embed(self.vqgan.decode_codes(codes), warp)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Ask the teacher about the pictures of the batch, then learn from what is remembered."""
        codes, warp = batch["codes"].flatten(0, 1), batch["identity_warp"].flatten(0, 1)
        mixed = uniform(len(codes), device=codes.device) < self.lessons.mixed
        codes = torch.where(mixed[:, None, None], mix(codes), codes)
        directions = self.teach(codes, warp)
        people = batch["identity"].repeat_interleave(batch["codes"].shape[1])
        # what any process has asked, all have heard
        codes, directions, people, mixed = map(gather, (codes, directions, people, mixed.int()))
        mixed = mixed.bool()
        for person, direction in zip(people[~mixed].tolist(), directions[~mixed], strict=True):
            self.gallery[person] = self.gallery.get(person, 0) + direction
        self.remembered.add(codes, directions)
        if self.lessons.kept:
            codes, directions = self.remembered.draw(self.lessons.batch)
        else:
            codes, directions = own(codes), own(directions)
        latent = self.vqgan.lookup(codes)
        if self.lessons.noise:
            deviation = self.identity_head.scale.deviation[:, None, None]
            # from none to the most, so that clean latents are learned as well
            strength = self.lessons.noise * uniform(len(latent), 1, 1, 1, device=latent.device)
            latent = latent + strength * deviation * normal_like(latent)
        loss = 1 - (self.identity_head(latent) * directions).sum(dim=1).mean()
        self.log("train/identity", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Head and teacher on held-out people."""
        codes, warp = batch["codes"].flatten(0, 1), batch["identity_warp"].flatten(0, 1)
        taught, learned = self.teach(codes, warp), self.identity_head(self.vqgan.lookup(codes))
        cosine = (taught * learned).sum(dim=1).mean()
        self.log("val/cosine", cosine, prog_bar=True, batch_size=len(codes), sync_dist=True)
        self._held_out.append((taught, learned))

    def on_validation_epoch_end(self) -> None:
        """Whether head and teacher agree on who of the training split is nearest, and in which order the rest
        follows (rank correlation)."""
        taught, learned = (torch.cat(part).float() for part in zip(*self._held_out, strict=True))
        self._held_out.clear()
        if len(self.gallery) < 2:
            return
        people = F.normalize(torch.stack([self.gallery[person] for person in sorted(self.gallery)]), dim=1)
        by_teacher, by_head = taught @ people.T, learned @ people.T
        same = (by_teacher.argmax(1) == by_head.argmax(1)).float().mean()
        self.log("val/same_nearest", same, sync_dist=True)
        self.log("val/rank_correlation", rank_correlation(by_teacher, by_head).mean(), sync_dist=True)
        self.log("val/gallery", float(len(people)), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which steps after every batch."""
        optimizer = self.optimizer(self.identity_head.parameters())
        return with_schedule(optimizer, self.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the teacher has said, so that a resumed run learns from the same."""
        checkpoint["answers"] = self.remembered.state()
        checkpoint["gallery"] = self.gallery

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        self.remembered.restore(checkpoint["answers"])
        self.gallery = checkpoint["gallery"]


class Answers:
    """The latest codes that a teacher was asked about, and its answers; 2 bytes a code and a number.

    Args:
        kept: how many; 0 keeps none.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.codes: Tensor | None = None
        self.directions: Tensor | None = None

    def add(self, codes: Tensor, directions: Tensor) -> None:
        """Remember codes ``(b, h, w)`` and directions ``(b, e)``; the oldest give way."""
        if not self.kept:
            return
        fresh = (codes.to(torch.int32), directions.half())
        held = (self.codes, self.directions)
        with torch.autocast(codes.device.type, enabled=False):  # that of a CPU knows no float16
            self.codes, self.directions = (
                (new if old is None else torch.cat([old.to(new.device), new]))[-self.kept :]
                for old, new in zip(held, fresh, strict=True)
            )

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """``count`` of them at random (again and again where there are fewer)."""
        assert self.codes is not None and self.directions is not None
        known, device = len(self.codes), self.codes.device
        chosen = draw_rows(
            lambda n, chance: torch.randint(known, (n,), generator=chance, device=device), count, device
        )
        return self.codes[chosen].long(), self.directions[chosen].float()

    def state(self) -> dict[str, Tensor | None]:
        """For a checkpoint."""
        return {"codes": self.codes, "directions": self.directions}

    def restore(self, state: dict[str, Tensor | None]) -> None:
        """From a checkpoint."""
        self.codes, self.directions = state["codes"], state["directions"]


def mix(codes: Tensor) -> Tensor:
    """Codes ``(b, h, w)``, each with a rectangle of the next one's in the same place.

    Rows stay in their half, so that codes stay those of their codebook.
    """
    b, h, w = codes.shape
    spans = []
    for size in (h, w):
        ends = uniform(b, 2, device=codes.device).mul(size + 1).long().sort(dim=1).values
        place = torch.arange(size, device=codes.device)
        spans.append((place >= ends[:, :1]) & (place < ends[:, 1:]))
    return torch.where(spans[0][:, :, None] & spans[1][:, None, :], own(gather(codes).roll(1, 0)), codes)


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's correlation of each row of ``a`` with that of ``b``, both ``(n, m)`` → ``(n,)``; no ties."""
    ranks = [x.argsort(dim=1).argsort(dim=1).float() for x in (a, b)]
    ranks = [F.normalize(rank - rank.mean(dim=1, keepdim=True), dim=1) for rank in ranks]
    return (ranks[0] * ranks[1]).sum(dim=1)
