"""Distil a VQGAN's decoder into a smaller one, for fast inference. Not in the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from talkgen.data.windows import as_uint8
from talkgen.errors import TalkgenError
from talkgen.global_batch import normal_like, uniform
from talkgen.metrics.psnr import psnr
from talkgen.models.frozen import Frozen
from talkgen.models.layers.latent_scale import LatentScale, codebook_vectors
from talkgen.models.vqgan.light_decoder import LightDecoder
from talkgen.models.vqgan.vqgan import VQGAN
from talkgen.systems.gradient_clip import ClippedSystem
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule


class LightDecoderSystem(ClippedSystem):
    """min |D'(z) − D(z)| + w LPIPS(D'(z), D(z)) over latents z of frames, half of them with noise.

    Noise, because what the decoder is given in use is regressed and lies between codes. The pictures
    themselves are not needed: the teacher's decoding is the label.

    Args:
        decoder: the network that is trained, D'.
        vqgan: trained; frozen here; its decoder is D.
        optimizer: makes the optimiser from the parameters.
        learning_rate: makes the learning rate schedule; None keeps the rate constant.
        perceptual: perceptual distance; None: L1 alone.
        perceptual_weight: w.
        noise: greatest deviation of the noise, in deviations of the codebook.
        gradient_clip: largest norm of the gradient; 0 does not clip.
    """

    def __init__(
        self,
        decoder: LightDecoder,
        vqgan: VQGAN,
        optimizer: OptimizerPartial,
        learning_rate: SchedulePartial | None = None,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 1.0,
        noise: float = 0.3,
        gradient_clip: float = 1.0,
    ) -> None:
        super().__init__()
        if (decoder.dim, decoder.factor) != (vqgan.dim, vqgan.factor):
            raise TalkgenError(
                f"decoder takes latents of {decoder.dim} channels at 1/{decoder.factor}, "
                f"the VQGAN gives {vqgan.dim} at 1/{vqgan.factor}; were they meant for the same size?"
            )
        self.decoder = decoder
        self.frozen_vqgan = Frozen(vqgan)
        self.scale = LatentScale(vqgan.dim)
        self.scale.set_from(codebook_vectors(vqgan))
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self.noise = noise
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.gradient_clip = gradient_clip
        self.val_psnr = MeanMetric()

    @property
    def vqgan(self) -> VQGAN:
        """The teacher."""
        network = self.frozen_vqgan.module
        assert isinstance(network, VQGAN)
        return network

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Decode the same latents with both."""
        latent = self.vqgan.lookup(batch["codes"].flatten(0, 1))
        noisy = uniform(len(latent), 1, 1, 1, device=latent.device) < 0.5
        strength = self.noise * uniform(len(latent), 1, 1, 1, device=latent.device) * noisy
        latent = latent + strength * self.scale.deviation[:, None, None] * normal_like(latent)
        with torch.no_grad():
            wanted = self.vqgan.decode(latent)
        made = self.decoder.decode(latent)
        loss = (made - wanted).abs().mean()
        self.log("train/l1", loss.detach(), prog_bar=True)
        if self.perceptual is not None:
            distance = self.perceptual(made, wanted).mean()
            self.log("train/perceptual", distance.detach())
            loss = loss + self.perceptual_weight * distance
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """How far both decodings of held-out frames are apart, in dB."""
        latent = self.vqgan.lookup(batch["codes"].flatten(0, 1))
        made, wanted = (as_uint8(network.decode(latent)) for network in (self.decoder, self.vqgan))
        self.val_psnr.update(psnr(made, wanted).float())

    def on_validation_epoch_end(self) -> None:
        """The mean over all frames."""
        self.log("val/psnr", self.val_psnr.compute(), prog_bar=True, sync_dist=True)
        self.val_psnr.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen perceptual network out."""
        weights = checkpoint["state_dict"]
        for key in [key for key in weights if key.startswith("perceptual.")]:
            del weights[key]

    def configure_optimizers(self) -> Any:
        """The optimiser and its schedule, which steps after every batch."""
        optimizer = self.optimizer(self.decoder.parameters())
        return with_schedule(optimizer, self.learning_rate)
