"""Trains the motion codec, DisentTalk's E_3d and D_3d; the motion stage can do without."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from talkgen.face3d.motion_statistics import MotionStatistics
from talkgen.losses.motion import region_weights
from talkgen.losses.weights import MotionWeights
from talkgen.models.disenttalk.motion_codec import RegionCodec
from talkgen.models.disenttalk.motion_space import MotionSpace
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule


class MotionCodecSystem(LightningModule):
    """L = Σ_r w_r (‖z_r − ẑ_r‖² + λ_v ‖Δz_r − Δẑ_r‖²) + β KL.

    ``val/motion``: Σ_r w_r ‖z_r − ẑ_r‖² by the posterior's mean; z has variance 1.

    Args:
        codec: the network.
        space: what makes motion numbers of unit variance.
        statistics: of the corpus, which fill ``space``.
        weights: of the regions; the other terms are not used but ``velocity``.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        divergence: β.
    """

    region_weight: Tensor

    def __init__(
        self,
        codec: RegionCodec,
        space: MotionSpace,
        statistics: MotionStatistics,
        weights: MotionWeights,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        divergence: float = 1e-3,
    ) -> None:
        super().__init__()
        space.set_from(statistics)
        self.codec = codec
        self.space = space
        self.weights = weights
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.divergence = divergence
        self.register_buffer("region_weight", region_weights(space.sizes, weights), persistent=False)

    def _distance(self, made: Tensor, true: Tensor) -> Tensor:
        return ((made - true).square() @ self.region_weight).mean()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One batch."""
        z = self.space.encode(batch["expression"], batch["rest"][:, None])
        code = self.codec.encode(z)
        made = self.codec.decode(code.sample())
        terms = {
            "motion": self._distance(made, z),
            "velocity": self.weights.velocity * self._distance(made.diff(dim=1), z.diff(dim=1)),
            "divergence": self.divergence * code.divergence(),
        }
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), prog_bar=name == "motion")
        return torch.stack(list(terms.values())).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How much of held-out motion is lost."""
        z = self.space.encode(batch["expression"], batch["rest"][:, None])
        made = self.codec.decode(self.codec.encode(z).mean)
        self.log("val/motion", self._distance(made, z), batch_size=len(z), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """One optimiser."""
        return with_schedule(self.optimizer(self.codec.parameters()), self.learning_rate)
