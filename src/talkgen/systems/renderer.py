"""DisentTalk's renderer: a source picture and motion coefficients to pictures (PIRenderer's training)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from talkgen.data.windows import as_uint8
from talkgen.errors import TalkgenError
from talkgen.losses.reconstruction import region_box, weighted_l1
from talkgen.losses.weights import RendererWeights
from talkgen.metrics.psnr import psnr
from talkgen.models.pirender.motion_window import renderer_motion, renderer_motion_tensor
from talkgen.models.pirender.pirenderer import PIRenderer, Rendering
from talkgen.models.pirender.warping import points_by_flow
from talkgen.systems.gradient_clip import ClippedSystem
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule

REGIONS: tuple[Literal["mouth", "eyes"], ...] = ("mouth", "eyes")


@dataclass(frozen=True)
class Pairs:
    """A batch as the network takes it, each pair in both directions.

    Attributes:
        source: ``(2 b, 3, h, w)``.
        target: ``(2 b, 3, h, w)``, another frame of the same clip.
        motion: around the target, ``(2 b, 27, 73)``.
        source_motion: of the source, ``(2 b, 73)``.
        landmarks: of the target, ``(2 b, 68, 2)``.
        source_landmarks: of the source.
    """

    source: Tensor
    target: Tensor
    motion: Tensor
    source_motion: Tensor
    landmarks: Tensor
    source_landmarks: Tensor

    @classmethod
    def of(cls, batch: dict[str, Any]) -> Pairs:
        """Frame 0 → frame 1 of every pair, then frame 1 → frame 0."""
        video, motion = batch["video"], renderer_motion_tensor(batch["coefficients"])
        middle, landmarks = motion.shape[2] // 2, batch["landmarks"]

        def both(values: Tensor) -> Tensor:
            return torch.cat([values[:, 0], values[:, 1]])

        return cls(
            source=both(video),
            target=both(video.flip(1)),
            motion=both(motion.flip(1)),
            source_motion=both(motion[:, :, middle]),
            landmarks=both(landmarks.flip(1)),
            source_landmarks=both(landmarks),
        )


class RendererSystem(ClippedSystem):
    """Two phases (PIRenderer, section 3.4): the flow first, then all of it.

        L = w_warp P(Î_w, I) + w_l1 |Î_w − I|                            in the first ``warp_batches``
        L = w_warp P(Î_w, I) + w_final (P + style)(Î, I) + w_l1 |Î − I| + w_mouth |Î − I|_mouth + …

    where P is the perceptual distance. In both phases, w_points |w(q) − q_s| for landmarks q of the target
    and q_s of the source: the flow must lead from one to the other. Between the phases the optimiser forgets
    what it knew of the gradients.

    Validation is on people who were not trained on, each pair in both directions: ``val/psnr``,
    ``val/mouth_l1`` in the mouth's box, of pictures in [0, 1]; ``…_warp`` of the warped picture and
    ``…_copy`` of the source itself; ``val/perceptual``; ``val/points``, pixels between the flow's landmarks
    and the source's, and ``val/points_copy`` without any flow.

    Args:
        renderer: the network.
        weights: weights of the terms; a term of weight 0 is not computed.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        warp_perceptual: distance of the warped picture, two pictures → ``(n,)``; None leaves the term out.
        perceptual: the same of the final picture.
        warp_batches: length of the first phase.
        gradient_clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(
        self,
        renderer: PIRenderer,
        weights: RendererWeights,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        warp_perceptual: nn.Module | None = None,
        perceptual: nn.Module | None = None,
        warp_batches: int = 200000,
        gradient_clip: float = 0.0,
    ) -> None:
        super().__init__()
        if weights.points and not renderer.align_corners:
            raise TalkgenError("the term points needs a renderer with align_corners=true")
        self.renderer = renderer
        self.weights = weights
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.warp_perceptual = warp_perceptual
        self.perceptual = perceptual
        self.warp_batches = warp_batches
        self.gradient_clip = gradient_clip
        self.batches = 0

    def on_fit_start(self) -> None:
        """Learn the scale of the coefficients of the corpus, where the network brings them to one."""
        if self.renderer.standardise and not self.batches:
            packed: np.ndarray = self.trainer.datamodule.data.sampled_coefficients()  # type: ignore[attr-defined]
            motion = torch.from_numpy(renderer_motion(packed))
            self.renderer.set_scale(motion.to(self.renderer.coefficient_mean.device))

    @property
    def edits(self) -> bool:
        """Whether the second phase has begun."""
        return self.batches >= self.warp_batches

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Both directions of every pair."""
        if self.batches == self.warp_batches:
            optimizer = self.optimizers(use_pl_optimizer=False)
            assert isinstance(optimizer, Optimizer)
            optimizer.state = defaultdict(dict)
        pairs = Pairs.of(batch)
        made = self.renderer(pairs.source, pairs.motion, pairs.source_motion, self.edits)
        terms = self.terms(made, pairs)
        self.batches += 1
        for name, (_, value) in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "l1")
        return torch.stack([weight * value for weight, value in terms.values()]).sum()

    def terms(self, made: Rendering, pairs: Pairs) -> dict[str, tuple[float, Tensor]]:
        """Name → weight and value of each term that acts now."""
        weights, target = self.weights, pairs.target
        terms: dict[str, tuple[float, Tensor]] = {}
        if self.warp_perceptual is not None and weights.warp:
            terms["warp"] = weights.warp, self.warp_perceptual(made.warped, target).mean()
        if self.edits and self.perceptual is not None and weights.final:
            terms["final"] = weights.final, self.perceptual(made.generated, target).mean()
        if weights.l1:
            terms["l1"] = weights.l1, weighted_l1(made.generated, target)
            if self.edits:
                terms["l1_warp"] = weights.l1, weighted_l1(made.warped, target)
        if weights.points:
            size = target.shape[-1]
            error = (points_by_flow(pairs.landmarks, made.flow, size) - pairs.source_landmarks).abs()
            terms["points"] = weights.points, error.mean() / size
        for region in REGIONS:
            if weight := getattr(weights, region):
                box = region_box(pairs.landmarks, target.shape[-2], target.shape[-1], region)
                terms[region] = weight, weighted_l1(made.generated, target, box)
        if not terms:
            raise ValueError("every term of the renderer has weight 0, or lacks its network")
        return terms

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Held-out people; the warped picture alone before the second phase."""
        pairs = Pairs.of(batch)
        made = self.renderer(pairs.source, pairs.motion, pairs.source_motion, self.edits)
        box = region_box(pairs.landmarks, pairs.target.shape[-2], pairs.target.shape[-1], "mouth")
        values = {}
        for suffix, pictures in (("", made.generated), ("_warp", made.warped), ("_copy", pairs.source)):
            values[f"psnr{suffix}"] = psnr(as_uint8(pictures), as_uint8(pairs.target)).mean().float()
            error = weighted_l1((pictures + 1) / 2, (pairs.target + 1) / 2, box)
            values[f"mouth_l1{suffix}"] = error
        if self.renderer.align_corners:
            led = points_by_flow(pairs.landmarks, made.flow, pairs.target.shape[-1])
            for name, points in (("points", led), ("points_copy", pairs.landmarks)):
                values[name] = (points - pairs.source_landmarks).norm(dim=-1).mean()
        if self.perceptual is not None:
            values["perceptual"] = self.perceptual(made.generated, pairs.target).mean()
        size = len(pairs.source)
        for name, value in values.items():
            self.log(f"val/{name}", value, prog_bar=name == "psnr", batch_size=size, sync_dist=True)

    @torch.no_grad()
    def sample(self, source: Tensor, start: np.ndarray, coefficients: np.ndarray) -> Tensor:
        """Source ``(3, h, w)``, its coefficients ``(257,)``, and those of frames and of 13 on either side,
        ``(t + 26, 257)`` → pictures ``(t, 3, h, w)``, for the sample videos.
        """
        motion, own = (torch.from_numpy(renderer_motion(part)).to(source) for part in (coefficients, start))
        descriptors = self.renderer.describe(motion[None], own[None])[0]
        return self.renderer.render(source[None], descriptors, self.edits).generated

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which steps after every batch."""
        return with_schedule(self.optimizer(self.renderer.parameters()), self.learning_rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the counter."""
        checkpoint["batches"] = self.batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.batches = checkpoint["batches"]
