"""Diff2Lip in use: the trained network, and what it makes of the crops of a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from talkgen.audio.alignment import PerFrameConvention, mel_windows, per_frame_mel_window
from talkgen.checkpoints import load_published
from talkgen.configuration import RunFolder, build
from talkgen.data.windows import as_model, as_uint8, resize_frames
from talkgen.diffusion.ddim import DDIM
from talkgen.diffusion.dpm_solver import DPMSolver
from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.sampler import Sampler
from talkgen.diffusion.schedule import linear_schedule
from talkgen.diffusion.unipc import UniPC
from talkgen.errors import FileError, TalkgenError
from talkgen.faces.crop import CROPS, CropSettings
from talkgen.inference.noise_maps import NoiseMaps
from talkgen.inference.runs import load_network, run_config
from talkgen.inference.stages import DIFFUSION_STAGE, DISTILLED_STAGE, diff2lip_run
from talkgen.inference.swaptalk import training_crop
from talkgen.models.diff2lip.inpainting import FeatureCache, TrainedDenoiser, inpaint, lower_mask
from talkgen.models.diff2lip.unet import Diff2LipUNet

Cover = Literal["own", "same"]
SAMPLERS = ("dpm_solver", "unipc", "ddim")
COVER_SEED = 20230818


def make_sampler(name: str, steps: int) -> Sampler:
    """A sampler of so many calls of the network.

    Raises:
        TalkgenError: there is no such sampler, or it cannot take as many steps.
    """
    if name not in SAMPLERS:
        raise TalkgenError(f"sampler={name}: give {', '.join(SAMPLERS)}")
    if not 1 <= steps <= 1000:
        raise TalkgenError(f"steps={steps}: give a number from 1 to 1000")
    if name == "dpm_solver":
        return DPMSolver(steps)
    return UniPC(steps) if name == "unipc" else DDIM(steps)


class Diff2Lip:
    """The trained network and how it is used.

    Usage::

        model = load_diff2lip("runs/diff2lip-demo")
        made = model.pictures(crops, references, model.mel_of_frames(mel, range(n), fps), range(n))

    Args:
        unet: trained.
        diffusion: what its output means.
        sampler: from noise to pictures; the fewer calls, the faster.
        crop: how faces are cut out of frames, as in training; None: as the preset ``face``. Its size is that
            of the crops that are read, not of the network.
        mel_convention: which sound a frame hears, as in training.
        share: of the rows that are generated, from below.
        noise: what frames are drawn from.
        cover: what hides the target: noise of its ``own``, as the training here has it, or the ``same`` that
            sampling starts from, as the published script has it.
        cache: leaves inner blocks out at some steps.
        device: where it runs.
        batch_frames: frames that go through the network at a time; memory depends on it.
        bf16: weights and activations in bfloat16, channels last: more than twice as fast where the machine
            multiplies bfloat16. The diffusion itself stays in float32.
        compiled: compile the network; the first batch of each size takes minutes.
        follows_boxes: crops are the detector's boxes stretched to squares, as published weights know them.
    """

    def __init__(
        self,
        unet: Diff2LipUNet,
        diffusion: GaussianDiffusion,
        sampler: Sampler,
        crop: CropSettings | None = None,
        mel_convention: PerFrameConvention = "official",
        share: float = 0.5,
        noise: NoiseMaps | None = None,
        cover: Cover = "own",
        cache: FeatureCache | None = None,
        device: str = "cpu",
        batch_frames: int = 20,
        bf16: bool = False,
        compiled: bool = False,
        follows_boxes: bool = False,
    ) -> None:
        if cover not in ("own", "same"):
            raise ValueError(f"cover is own or same, not {cover!r}")
        self.unet = unet.to(device).eval().requires_grad_(False)
        if bf16:
            self.unet = self.unet.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.diffusion = diffusion.to(device)
        self.sampler = sampler
        self.crop = crop or CROPS["face"]
        self.mel_convention = mel_convention
        self.noise = noise or NoiseMaps()
        self.cover = cover
        self.cache = cache
        self.device = device
        self.batch_frames = batch_frames
        self.follows_boxes = follows_boxes
        self.size = unet.image_size
        self.mask = lower_mask(self.size, share).to(device)
        if compiled:
            unet.denoise = torch.compile(unet.denoise)  # type: ignore[method-assign]

    @property
    def top(self) -> int:
        """First generated row."""
        return int((self.mask[0, 0, :, 0] == 0).sum())

    def mel_of_frames(self, mel: NDArray[np.float32], frames: Sequence[int], fps: float) -> Tensor:
        """What each frame hears: float32 (n, 1, 80, 16)."""
        starts = [per_frame_mel_window(frame, fps, self.mel_convention).start for frame in frames]
        return torch.from_numpy(mel_windows(mel, starts)).unsqueeze(1)

    def pictures(
        self, crops: NDArray[np.uint8], references: NDArray[np.uint8], mels: Tensor, frames: Sequence[int]
    ) -> NDArray[np.uint8]:
        """Crops whose lower part says what is heard; the rows above are the given ones to the bit.

        Args:
            crops: uint8 RGB (n, s, s, 3) of any size; resized to the network's.
            references: of the same people, one for each crop.
            mels: (n, 1, 80, 16).
            frames: their numbers in the video, which choose their noise.

        Returns:
            uint8 (n, size, size, 3).
        """
        small, shown = resize_frames(crops, self.size), resize_frames(references, self.size)
        made = small.copy()
        for start in range(0, len(small), self.batch_frames):
            part = slice(start, start + self.batch_frames)
            target, reference = (as_model(torch.from_numpy(x[part])) for x in (small, shown))
            generated = self.sample(target, reference, mels[part], frames[part])
            made[part, self.top :] = as_uint8(generated[:, :, self.top :]).numpy()
        return made

    @torch.inference_mode()
    def sample(self, target: Tensor, reference: Tensor, mels: Tensor, frames: Sequence[int]) -> Tensor:
        """The same of pictures (n, 3, size, size) in [-1, 1], in one batch; the result is on the CPU."""
        noise = self.noise(frames, self.size).to(self.device)
        cover = noise
        if self.cover == "own":
            cover = replace(self.noise, seed=COVER_SEED)(frames, self.size).to(self.device)
        generated = inpaint(
            self.unet,
            self.diffusion,
            self.sampler,
            target.to(self.device),
            reference.to(self.device),
            mels.to(self.device),
            self.mask,
            noise,
            torch.Generator(self.device).manual_seed(self.noise.seed),
            cover,
            self.cache,
        )
        return generated.float().cpu()


def load_diff2lip(
    folder: str | Path,
    sampler: Sampler | None = None,
    checkpoint: str = "best",
    noise: NoiseMaps | None = None,
    cache: FeatureCache | None = None,
    device: str = "cpu",
    batch_frames: int = 20,
    bf16: bool = False,
    compiled: bool = False,
) -> Diff2Lip:
    """Diff2Lip from the folder of its stages, one of its runs, or a published checkpoint.

    Of a folder with both, the distilled network is taken only where it is named
    (``runs/diff2lip-demo/diff2lip_distill``).

    Args:
        folder: such as ``runs/diff2lip-demo``, or a file of published weights.
        sampler: None: the run's own; of published weights DDIM with 25 steps.
        checkpoint: ``"best"`` or ``"last"`` of the run.
        noise, cache, device, batch_frames, bf16, compiled: see ``Diff2Lip``.

    Raises:
        TalkgenError: there is no such folder or network.
    """
    how = {
        "noise": noise,
        "cache": cache,
        "device": device,
        "batch_frames": batch_frames,
        "bf16": bf16,
        "compiled": compiled,
    }
    if Path(folder).is_file():
        unet = Diff2LipUNet()
        load_published(unet, folder, layout="diff2lip")
        diffusion = GaussianDiffusion(linear_schedule())
        crop = replace(CROPS["face"], size=unet.image_size)
        return Diff2Lip(
            unet,
            diffusion,
            sampler or DDIM(25),
            crop,
            cover="same",
            follows_boxes=True,
            **how,  # type: ignore[arg-type]
        )
    run = run_of(folder)
    config = run_config(run)
    node = config.system.diffusion if "diffusion" in config.system else config.system.loss.diffusion
    return Diff2Lip(
        load_network(run, "unet", checkpoint),
        build(node),
        sampler or build(config.system.sampler),
        training_crop(run.path),
        OmegaConf.select(config, "data.window.mel_per_frame_convention", default="official"),
        float(config.system.get("share", 0.5)),
        **how,  # type: ignore[arg-type]
    )


def load_teacher(run: str | Path) -> TrainedDenoiser:
    """The network of a run, or of a file of published weights, for a system to be distilled from.

    Raises:
        TalkgenError: there is no such network.
    """
    model = load_diff2lip(run)
    return TrainedDenoiser(model.unet, model.diffusion)


def run_of(folder: str | Path) -> RunFolder:
    """The run whose network a folder stands for.

    Raises:
        FileError: there is none.
    """
    run = diff2lip_run(folder)
    if run is None:
        raise FileError(
            folder,
            f"holds no trained {DIFFUSION_STAGE} or {DISTILLED_STAGE}; give the folder of the method, or "
            "train one: python train.py experiment=diff2lip",
        )
    return run
