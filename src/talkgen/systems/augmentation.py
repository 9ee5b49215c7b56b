"""Variation of training samples that leaves alone what is to be learned."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from talkgen.global_batch import draw_rows, gather, normal_like, uniform
from talkgen.models.experts.lip_view import BROWS, CHIN


class VoiceAugmentation(nn.Module):
    """Another voice: all mels of a sample louder or softer, and higher or lower.

    All mels of a sample, and of samples with the same voice, are changed alike, so that only timing tells
    which of them belongs to the frames.

    Args:
        gain: largest change of the level, in the mel's own units (range −4 to 4).
        shift: largest shift along frequency, in mel bands.
        noise: standard deviation of noise on every cell, which is not the same in mels that overlap.
    """

    def __init__(self, gain: float = 0.5, shift: int = 4, noise: float = 0.0) -> None:
        super().__init__()
        self.gain = gain
        self.shift = shift
        self.noise = noise

    def forward(
        self, mels: Float[Tensor, "b n 1 bands steps"], voice: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b n 1 bands steps"]:
        """Mels of each sample, changed; random numbers are PyTorch's.

        Args:
            mels: log-mels.
            voice: numbers below b, equal for samples with the same voice; None: every sample has its own.
        """
        b, bands = len(mels), mels.shape[3]
        gain = self.gain * (2 * uniform(b, 1, 1, 1, 1, device=mels.device, dtype=mels.dtype) - 1)

        def draw(count: int, generator: Generator | None) -> Tensor:
            limits = (-self.shift, self.shift + 1)
            return torch.randint(*limits, (count, 1), generator=generator, device=mels.device)

        shift = draw_rows(draw, b, mels.device)
        if voice is not None:
            gain, shift = gain[voice], shift[voice]
        band = (torch.arange(bands, device=mels.device) + shift).clamp(0, bands - 1)
        voices = mels.gather(3, band.view(b, 1, 1, bands, 1).expand_as(mels)) + gain
        return voices + self.noise * normal_like(voices) if self.noise else voices


class FeatureAugmentation(nn.Module):
    """Another voice, for what frames hear (``talkgen.audio.frame_features``).

    Mels are changed as ``VoiceAugmentation`` does, all frames of a sample alike; features of networks get
    noise in proportion to their own deviation in the batch.

    Args:
        kind: ``mel``, or anything else for features of a network.
        gain: largest change of a mel's level, in units of its range from −1 to 1.
        shift: largest shift along frequency, in mel bands.
        noise: deviation of the noise, in deviations of each feature.
    """

    def __init__(self, kind: str, gain: float = 0.125, shift: int = 4, noise: float = 0.2) -> None:
        super().__init__()
        self.voice = VoiceAugmentation(gain, shift) if kind == "mel" else None
        self.noise = noise

    def forward(
        self, heard: Float[Tensor, "b t a"], voice: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b t a"]:
        """Features of each sample, changed; ``voice`` as in ``VoiceAugmentation``."""
        if self.voice is None:
            spread = gather(heard).flatten(0, 1).std(0)
            return heard + self.noise * spread * normal_like(heard)
        return self.voice(heard.unflatten(2, (1, 80, -1)), voice).flatten(2)


class BoxAugmentation(nn.Module):
    """Another detector: the landmarks of a window moved and scaled together, so that a box cut by them is.

    Args:
        shift: largest displacement along each axis, in heights of the face (brows to chin).
        zoom: largest relative change of size.
    """

    def __init__(self, shift: float = 0.04, zoom: float = 0.06) -> None:
        super().__init__()
        if not 0 <= zoom < 1:
            raise ValueError(f"zoom must lie in [0, 1), not {zoom}")
        self.shift = shift
        self.zoom = zoom

    def forward(self, landmarks: Float[Tensor, "b t 68 2"]) -> Float[Tensor, "b t 68 2"]:
        """iBUG points, changed; random numbers are PyTorch's."""
        b = len(landmarks)
        height = landmarks[:, :, CHIN, 1].mean(1) - landmarks[:, :, BROWS, 1].mean((1, 2))
        centre = landmarks.mean((1, 2), keepdim=True)

        def draw(count: int, generator: Generator | None) -> Tensor:
            kind = {"device": landmarks.device, "dtype": landmarks.dtype}
            return torch.rand(3, count, generator=generator, **kind)  # type: ignore[call-overload, no-any-return]

        random = 2 * draw_rows(draw, b, landmarks.device, dim=1) - 1
        zoom = 1 + self.zoom * random[0].view(b, 1, 1, 1)
        shift = self.shift * (height * random[1:]).T.view(b, 1, 1, 2)
        return centre + zoom * (landmarks - centre) + shift


class ColourAugmentation(nn.Module):
    """Other light: each picture's colour channels scaled and shifted, and clipped to [-1, 1].

    A codebook trained on few people and rooms otherwise knows their colours only.

    Args:
        gain: largest relative change of a channel's contrast.
        offset: largest change of its level.
    """

    def __init__(self, gain: float = 0.15, offset: float = 0.15) -> None:
        super().__init__()
        self.gain = gain
        self.offset = offset

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures, changed; random numbers are PyTorch's."""

        def draw(count: int, generator: Generator | None) -> Tensor:
            shape, kind = (
                (2, count, picture.shape[1], 1, 1),
                {"device": picture.device, "dtype": picture.dtype},
            )
            return torch.rand(shape, generator=generator, **kind)  # type: ignore[call-overload, no-any-return]

        gain, offset = 2 * draw_rows(draw, len(picture), picture.device, dim=1) - 1
        return (picture * (1 + self.gain * gain) + self.offset * offset).clamp(-1, 1)
