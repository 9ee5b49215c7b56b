"""Generating the masked part of faces: what is hidden, and how a sampler fills it in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from talkgen.diffusion.gaussian import GaussianDiffusion
from talkgen.diffusion.sampler import Denoise, Sampler
from talkgen.diffusion.schedule import Estimate
from talkgen.models.diff2lip.unet import DeepFeatures, Diff2LipUNet


@dataclass(frozen=True)
class TrainedDenoiser:
    """A trained network, and what its output means."""

    unet: Diff2LipUNet
    diffusion: GaussianDiffusion


@dataclass(frozen=True)
class FeatureCache:
    """Which steps compute the whole network; the others take the inner blocks' features of the last one.

    Attributes:
        every: all blocks at every so many steps.
        blocks: see ``DeepFeatures``.
    """

    every: int = 2
    blocks: int = 3

    def __post_init__(self) -> None:
        if self.every < 1 or self.blocks < 1:
            raise ValueError(f"every and blocks of a feature cache are at least 1, got {self}")


def lower_mask(size: int, share: float = 0.5) -> Float[Tensor, "1 1 size size"]:
    """1 in the lowest ``share`` of the rows, which are to be generated; 0 above."""
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, int(size * (1 - share)) :] = 1
    return mask


def hide(
    target: Float[Tensor, "b 3 h w"], mask: Float[Tensor, "#b 1 h w"], noise: Float[Tensor, "#b 3 h w"]
) -> Float[Tensor, "b 3 h w"]:
    """target ⊙ (1 − m) + noise ⊙ m: the target without a trace of what the mask covers."""
    return torch.lerp(target, noise.expand_as(target), mask)


def denoiser(
    unet: Diff2LipUNet,
    diffusion: GaussianDiffusion,
    timesteps: tuple[int, ...],
    masked: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "#b 1 h w"],
    reference: Float[Tensor, "b c h w"],
    mel: Float[Tensor, "b 1 bins 16"],
    clamp: bool = True,
    cache: FeatureCache | None = None,
) -> Denoise:
    """The network as samplers call it; audio and times are embedded here, once.

    Args:
        unet: in eval mode.
        diffusion: what its output means.
        timesteps: that the sampler will visit.
        masked: see ``hide``.
        mask: 1 where pictures are generated.
        reference: other frames of the same people.
        mel: the mel window of each frame.
        clamp: keep x̂₀ in [-1, 1], as published.
        cache: leaves inner blocks out at some steps; None: at no step.
    """
    audio = unet.embed_audio(mel)
    times = dict(zip(timesteps, unet.embed_time(torch.tensor(timesteps, device=masked.device)), strict=True))
    places = {timestep: place for place, timestep in enumerate(timesteps)}
    deep = None if cache is None else DeepFeatures(cache.blocks)

    def denoise(noisy: Tensor, timestep: int) -> Estimate:
        if deep is not None and cache is not None and places[timestep] % cache.every == 0:
            deep.value = None
        output = unet.denoise(noisy, times[timestep] + audio, masked, mask, reference, deep)
        t = torch.full((len(noisy),), timestep, device=noisy.device)
        return diffusion.estimate(output, noisy, t, clamp)

    return denoise


@torch.no_grad()
def inpaint(
    unet: Diff2LipUNet,
    diffusion: GaussianDiffusion,
    sampler: Sampler,
    target: Float[Tensor, "b 3 h w"],
    reference: Float[Tensor, "b c h w"],
    mel: Float[Tensor, "b 1 bins 16"],
    mask: Float[Tensor, "#b 1 h w"],
    noise: Float[Tensor, "#b 3 h w"],
    generator: torch.Generator | None = None,
    cover: Float[Tensor, "#b 3 h w"] | None = None,
    cache: FeatureCache | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Frames whose masked part says what is heard; the rest is the target's to the bit.

    Args:
        unet: in eval mode.
        diffusion: what its output means.
        sampler: any of ``talkgen.diffusion``.
        target: frames in [-1, 1].
        reference: other frames of the same people.
        mel: the mel window of each frame.
        mask: 1 where pictures are generated.
        noise: standard normal: where sampling starts. One map for all frames of a video keeps them from
            flickering, as published.
        generator: of the noise that stochastic samplers add.
        cover: noise that hides the target. None: the same ``noise``, as the published script does; in
            training it was another.
        cache: see ``denoiser``.
    """
    noise = noise.expand_as(target)
    timesteps = sampler.timesteps(diffusion.schedule)
    denoise = denoiser(
        unet,
        diffusion,
        timesteps,
        hide(target, mask, noise if cover is None else cover),
        mask,
        reference,
        mel,
        cache=cache,
    )
    generated = sampler.sample(diffusion.schedule, denoise, noise, generator)
    return torch.lerp(target, generated.to(target.dtype), mask)
