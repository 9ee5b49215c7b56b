"""Diff2Lip in a few steps: a network learns to do in one step what it did in two, again and again."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from talkgen.data.windows import as_uint8
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.gaussian import GaussianDiffusion, bound_gradient, stratified_timesteps
from talkgen.diffusion.sampler import spaced_timesteps
from talkgen.diffusion.schedule import NoiseSchedule
from talkgen.errors import TalkgenError
from talkgen.global_batch import draw_rows
from talkgen.losses.denoising import squared_error
from talkgen.metrics.psnr import psnr
from talkgen.models.diff2lip.inpainting import TrainedDenoiser, hide, inpaint, lower_mask
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.models.frozen import Frozen
from talkgen.systems.augmentation import VoiceAugmentation
from talkgen.systems.diff2lip_windows import Windows, read_windows
from talkgen.systems.partials import OptimizerPartial, SchedulePartial, with_schedule


@dataclass(frozen=True)
class StepPairs:
    """Two steps of the teacher for one of the student, a window each; −1 is the clean picture.

    Attributes:
        start, middle, stop: timesteps ``(b,)``.
    """

    start: Tensor
    middle: Tensor
    stop: Tensor

    @classmethod
    def draw(cls, schedule: NoiseSchedule, steps: int, count: int, device: torch.device | str) -> StepPairs:
        """Steps of a student that takes ``steps``, spread evenly over its steps."""
        grid = torch.tensor([*spaced_timesteps(schedule, 2 * steps, "trailing"), -1], device=device)
        place = 2 * draw_rows(
            lambda number, generator: stratified_timesteps(number, steps, generator, device), count, device
        )
        return cls(grid[place], grid[place + 1], grid[place + 2])


class Diff2LipDistillSystem(LightningModule):
    """Progressive distillation ("Progressive Distillation for Fast Sampling of Diffusion Models", Salimans
    and Ho 2022, algorithm 2), inside the mask.

    In a round the student takes N steps. From z_t the teacher takes two steps of DDIM, over t' to t''; the
    picture that would lead there in one step is

        x̃ = (z_t'' − (σ_t''/σ_t) z_t) / (α_t'' − (σ_t''/σ_t) α_t),

    and the student learns it: L = max(α_t²/σ_t², 1) ‖m ⊙ (x̃ − x̂_t)‖². At the end of a round the student
    becomes the teacher, and N is the next of ``rounds``.

    Validation samples each window in the last N steps from the noise that the first teacher is given as well:
    ``val/teacher`` is the PSNR between the two inside the mask, ``val/psnr_mask`` that to the truth, and
    ``val/psnr_mask_teacher`` what the teacher gets there.

    Args:
        unet: the student; it begins as the teacher.
        teacher: trained.
        optimizer: makes the optimiser from the parameters.
        steps: of the whole run, in batches; rounds are equally long.
        sampler: of the student when it is done: DDIM with the last number of steps, trailing.
        rounds: N of each round, each half of the one before. The first teacher takes twice the first.
        learning_rate: makes the schedule; ``annealed_rounds`` falls to 0 in each round.
        augmentation: of the voice, in training.
        share: of the rows that are generated, from below.
        mouth: weight of squared errors in the mouth's box.
        gradient_clip: largest norm of the gradient; 0 does not clip.
        teacher_steps: DDIM steps of the first teacher, in validation.
    """

    mask: Tensor
    round: Tensor

    def __init__(
        self,
        unet: Diff2LipUNet,
        teacher: TrainedDenoiser,
        optimizer: OptimizerPartial,
        steps: int,
        sampler: DDIM,
        diffusion: GaussianDiffusion | None = None,
        rounds: Sequence[int] = (8, 4, 2),
        learning_rate: SchedulePartial | None = None,
        augmentation: VoiceAugmentation | None = None,
        share: float = 0.5,
        mouth: float = 1.0,
        gradient_clip: float = 1.0,
        teacher_steps: int = 16,
    ) -> None:
        super().__init__()
        self.rounds = tuple(rounds)
        if not self.rounds or any(a != 2 * b for a, b in zip(self.rounds, self.rounds[1:], strict=False)):
            raise TalkgenError(
                f"rounds={list(rounds)}: each must be half of the one before, such as [8, 4, 2]"
            )
        if sampler != DDIM(self.rounds[-1], spacing="trailing"):
            raise TalkgenError(
                f"the student samples by DDIM in {self.rounds[-1]} trailing steps, not {sampler}"
            )
        if diffusion is not None and diffusion.prediction != teacher.diffusion.prediction:
            raise TalkgenError(
                f"the teacher predicts {teacher.diffusion.prediction}, so must the student "
                f"(system.diffusion.prediction={teacher.diffusion.prediction})"
            )
        try:
            unet.load_state_dict(teacher.unet.state_dict())
        except RuntimeError as error:
            raise TalkgenError(
                "teacher and student are of different sizes; distil at the teacher's"
            ) from error
        self.unet = unet
        self.first_teacher = Frozen(teacher.unet)
        self.round_teacher = copy.deepcopy(teacher.unet).requires_grad_(False)
        self.diffusion = teacher.diffusion
        self.optimizer = optimizer
        self.round_batches = math.ceil(steps / len(self.rounds))
        self.sampler = sampler
        self.learning_rate = learning_rate
        self.augmentation = augmentation
        self.mouth = mouth
        self.gradient_clip = gradient_clip
        self.teacher_sampler = DDIM(teacher_steps, spacing="trailing")
        self.register_buffer("mask", lower_mask(unet.image_size, share), persistent=False)
        self.register_buffer("round", torch.tensor(0))

    # Training ---------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step of the student against two of the teacher."""
        self.begin_round(min(batch_idx // self.round_batches, len(self.rounds) - 1))
        windows = read_windows(batch, self.unet.references, self.augmentation if self.training else None)
        loss = self.loss(windows, self.rounds[int(self.round)])
        self.log("train/distillation", loss.detach(), prog_bar=True)
        return loss

    def begin_round(self, number: int) -> None:
        """Where a new round begins, what the student has learned becomes the teacher."""
        if number > int(self.round):
            self.round_teacher.load_state_dict(self.unet.state_dict())
            self.round.fill_(number)

    def loss(self, windows: Windows, steps: int) -> Tensor:
        """max(SNR, 1) ‖m ⊙ (x̃ − x̂)‖² of a student that takes so many steps."""
        schedule, target = self.diffusion.schedule, windows.target
        pairs = StepPairs.draw(schedule, steps, len(target) // windows.frames, self.device)
        noise, cover = (windows.noise(shared=True) for _ in range(2))
        start, middle, stop = (
            t.repeat_interleave(windows.frames) for t in (pairs.start, pairs.middle, pairs.stop)
        )
        noisy = schedule.add_noise(target.float(), noise, start)
        masked = hide(target, self.mask, cover)
        given = masked, self.mask, windows.reference

        def believed(unet: Diff2LipUNet, x: Tensor, t: Tensor, clamp: bool) -> tuple[Tensor, Tensor]:
            embedding = unet.embed_time(t) + unet.embed_audio(windows.heard)
            estimate = self.diffusion.estimate(unet.denoise(x, embedding, *given), x, t, clamp)
            return estimate.x0, estimate.noise

        with torch.no_grad():
            x = noisy
            for t, s in ((start, middle), (middle, stop)):
                x0, epsilon = believed(self.round_teacher, x, t, True)
                alpha, sigma = _signal_and_noise(schedule, s)
                x = alpha * x0 + sigma * epsilon
            wanted = picture_between(schedule, noisy, x, start, stop).clamp(-1, 1)
        made, _ = believed(self.unet, noisy, start, False)
        if self.diffusion.prediction == "noise":
            made = bound_gradient(made, (schedule.alpha[start] / schedule.sigma[start]).clamp_max(1))
        error = squared_error(made, wanted, self.mask, windows.mouth_weight(self.mouth))
        return (schedule.snr(start).clamp_min(1) * error).mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here, after a gradient scaler has taken its factor out."""
        if self.gradient_clip:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")

    # Validation -------------------------------------------------------------------------------------------

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Samples of the student and of the first teacher from the same noise."""
        windows, size = read_windows(batch, self.unet.references), len(batch["video"])
        generator = torch.Generator(self.device).manual_seed(batch_idx)
        noise, cover = (windows.noise(True, generator) for _ in range(2))
        top = int((self.mask[0, 0, :, 0] == 0).sum())
        teacher = self.first_teacher.module
        assert isinstance(teacher, Diff2LipUNet)

        def sampled(unet: Diff2LipUNet, sampler: DDIM) -> Tensor:
            made = inpaint(
                unet, self.diffusion, sampler, windows.target, windows.reference, windows.heard, self.mask,
                noise, cover=cover,
            )  # fmt: skip
            return as_uint8(made[:, :, top:])

        student, taught = sampled(self.unet, self.sampler), sampled(teacher, self.teacher_sampler)
        truth = as_uint8(windows.target[:, :, top:])
        pairs = {
            "teacher": (student, taught),
            "psnr_mask": (student, truth),
            "psnr_mask_teacher": (taught, truth),
        }
        for name, pair in pairs.items():
            value = psnr(*pair).mean().float()
            self.log(f"val/{name}", value, prog_bar=name == "teacher", batch_size=size, sync_dist=True)

    @torch.no_grad()
    def sample(self, video: Tensor, reference: Tensor, heard: Tensor) -> Tensor:
        """See ``Diff2LipSystem.sample``."""
        generator = torch.Generator(self.device).manual_seed(0)
        noise, cover = torch.randn(2, 1, *video.shape[1:], generator=generator, device=self.device)
        references = reference.flatten(0, 1).expand(len(video), -1, -1, -1)
        return inpaint(
            self.unet, self.diffusion, self.sampler, video, references, heard, self.mask, noise, cover=cover
        )

    def configure_optimizers(self) -> Any:
        """The student's optimiser and its schedule."""
        return with_schedule(self.optimizer(self.unet.parameters()), self.learning_rate)


def picture_between(schedule: NoiseSchedule, noisy: Tensor, later: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x̃ from which one step of DDIM leads from ``noisy`` at t to ``later`` at s; −1 is the clean picture."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (_signal_and_noise(schedule, one) for one in (t, s))
    ratio = sigma_s / sigma_t
    return (later - ratio * noisy) / (alpha_s - ratio * alpha_t)


def _signal_and_noise(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ, (n, 1, 1, 1)."""
    clean = t < 0
    alpha = torch.where(clean, 1.0, schedule.alpha[t.clamp_min(0)])
    sigma = torch.where(clean, 0.0, schedule.sigma[t.clamp_min(0)])
    return alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)
