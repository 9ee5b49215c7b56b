"""SwapTalk's two modules on the codes of a clip (the authors' figure, part b).

``S_VQ`` is the source's latent, ``T_VQ`` the target's, ``R_VQ`` that of the reference frame(s):

    swap_sync (the paper's order)   T̃, R̃ = Swap(T, S), Swap(R, S);   T̂ = cat(T̃^U, Lip(T̃^U, R̃, audio))
    sync_swap                       T̂ = Swap(cat(T^U, Lip(T^U, R, audio)), S)

and D(T̂) is the picture. In space ``rgb`` what the first module gives is decoded to 8-bit pictures and encoded
again before the second sees it, as a cascade of two models that know nothing of each other does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talkgen.audio.alignment import PerFrameConvention, mel_windows, per_frame_mel_window
from talkgen.data.windows import as_model, as_uint8, resize_frames
from talkgen.faces.crop import CROPS, CropSettings
from talkgen.models.swaptalk.swapper import SourceMemory, Swapper

Order = Literal["swap_sync", "sync_swap"]
Space = Literal["latent", "rgb"]
MEL_STEPS = 16  # of one frame's window


class LatentDecoder(Protocol):
    """What is asked of a decoder."""

    factor: int
    dim: int

    def decode(self, latent: Tensor) -> Tensor:
        """Latents → pictures."""


class LatentCodec(LatentDecoder, Protocol):
    """What is asked of a VQGAN here."""

    def encode_codes(self, image: Tensor) -> Tensor:
        """Pictures (b, 3, h, w) in [-1, 1] → codes."""

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes → latents."""

    def quantize(self, latent: Tensor) -> Any:
        """Latents → nearest codes."""


class LipSynchroniser(Protocol):
    """What is asked of a lip-sync module."""

    def reference_features(self, reference: Tensor) -> Any:
        """Whatever depends on the references (1, r, d, h, w) alone."""

    def __call__(self, target_upper: Tensor, reference: Any, mel: Tensor) -> Tensor:
        """Upper halves (b, t, d, h/2, w), ``reference_features`` of one clip, sound → lower halves."""


@dataclass(frozen=True)
class Cascade:
    """How the two modules follow each other.

    Attributes:
        order: which comes first.
        space: ``"latent"``: the second takes the first one's latents as they are; ``"rgb"``: they are decoded
            and encoded again in between.
        snap: replace what each module regresses by the nearest codes. The decoder was trained on codes; but
            where the nearest one changes from frame to frame, the picture flickers.
    """

    order: Order = "swap_sync"
    space: Space = "latent"
    snap: bool = False

    def __post_init__(self) -> None:
        if self.order not in ("swap_sync", "sync_swap"):
            raise ValueError(f"order is swap_sync or sync_swap, not {self.order!r}")
        if self.space not in ("latent", "rgb"):
            raise ValueError(f"space is latent or rgb, not {self.space!r}")


@dataclass(frozen=True)
class ClipState:
    """What is the same for all frames of a clip, and is computed once.

    Attributes:
        memory: of the source, for the face-swapping module; None where nothing is swapped.
        reference: features of the reference frames, which are swapped where the swap comes first; None where
            lips are left alone.
    """

    memory: SourceMemory | None
    reference: Any


class SwapTalk:
    """The trained parts, and how they work together on the codes of a clip.

    Usage::

        model = load_swaptalk("runs/swaptalk-demo")
        state = model.begin(source_codes, reference_codes)
        pictures = model.pictures(codes, mel, state)      # as often as there are pieces of the clip

    Args:
        vqgan: encodes and decodes.
        face_swap: the face-swapping module; None: lips only.
        lip_sync: the lip-sync module; None: face swap only.
        size: side of the pictures in pixels, as in training.
        cascade: order and space.
        window: frames that the lip-sync module sees at a time, as in training.
        mel_convention: which sound a frame hears, as in training.
        decoder: decodes in place of ``vqgan``, such as a ``LightDecoder``.
        device: where the networks run.
        batch_frames: frames that go through a network at a time (whole windows); memory depends on it alone.
        bf16: compute in bfloat16 where the networks allow it.
        crop: how faces are cut out of frames, as in training; None: as the preset ``face``.
        references: frames of the target whose mouth the lip-sync module sees, as in training.
    """

    def __init__(
        self,
        vqgan: LatentCodec,
        face_swap: Swapper | None = None,
        lip_sync: LipSynchroniser | None = None,
        size: int = 320,
        cascade: Cascade | None = None,
        window: int = 5,
        mel_convention: PerFrameConvention = "official",
        decoder: LatentDecoder | None = None,
        device: str = "cpu",
        batch_frames: int = 20,
        bf16: bool = False,
        crop: CropSettings | None = None,
        references: int = 1,
    ) -> None:
        if decoder is not None and (decoder.dim, decoder.factor) != (vqgan.dim, vqgan.factor):
            raise ValueError(
                f"the decoder takes latents of {decoder.dim} channels at 1/{decoder.factor}, "
                f"the VQGAN gives {vqgan.dim} at 1/{vqgan.factor}"
            )
        self.device = device
        self.vqgan = _moved(vqgan, device)
        self.face_swap = _moved(face_swap, device)
        self.lip_sync = _moved(lip_sync, device)
        self.decoder = self.vqgan if decoder is None else _moved(decoder, device)
        self.size = size
        self.cascade = cascade or Cascade()
        self.window = window
        self.mel_convention = mel_convention
        # Whole windows, so that a clip falls into the same ones whatever the batch.
        self.batch_frames = max(batch_frames // window, 1) * window
        self.bf16 = bf16
        self.crop = crop or CROPS["face"]
        self.references = references

    def variant(self, cascade: Cascade, swap: bool = True, sync: bool = True) -> SwapTalk:
        """The same networks in another cascade, or without one of them."""
        return SwapTalk(
            self.vqgan,
            self.face_swap if swap else None,
            self.lip_sync if sync else None,
            self.size,
            cascade,
            self.window,
            self.mel_convention,
            self.decoder,
            self.device,
            self.batch_frames,
            self.bf16,
            self.crop,
            self.references,
        )

    def encode(self, frames: NDArray[np.uint8]) -> Tensor:
        """Crops, uint8 RGB (n, s, s, 3) of any size → codes, int64 (n, h, w) on the CPU."""
        codes = [
            self._compute(self.vqgan.encode_codes, self._pictures_in(resize_frames(part, self.size))).cpu()
            for part in _split(frames, self.batch_frames)
        ]
        return torch.cat(codes)

    def begin(self, source: Tensor | None, reference: Tensor | None) -> ClipState:
        """What a clip needs once: keys and values of the source, and the (swapped) reference.

        Args:
            source: codes (1, h, w) of the source; None swaps nothing.
            reference: codes (r, h, w) of the target's reference frames; None leaves the lips alone.
        """
        memory, references = None, None
        if source is not None and self.face_swap is not None:
            memory = self._compute(self.face_swap.source_memory, self._latent(source))
        if reference is not None and self.lip_sync is not None:
            latent = self._latent(reference)
            if memory is not None and self.cascade.order == "swap_sync":
                latent = self._between(self._swap(latent, memory))
            references = self._compute(self.lip_sync.reference_features, latent[None])
        return ClipState(memory, references)

    def latents(self, codes: Tensor, mel: Tensor | None, state: ClipState) -> Tensor:
        """T̂_VQ of some consecutive frames.

        Args:
            codes: T_VQ of the target as indices (n, h, w).
            mel: (n, 1, 80, 16), the sound of each frame; None leaves the lips alone.
            state: of the clip.

        Returns:
            (n, d, h, w).
        """
        modules = []
        if state.memory is not None:
            modules.append(partial(self._swap, memory=state.memory))
        if state.reference is not None and mel is not None:
            modules.append(partial(self._sync, reference=state.reference, mel=mel))
        if self.cascade.order == "sync_swap":
            modules.reverse()
        latent = self._latent(codes)
        for place, module in enumerate(modules):
            latent = module(latent if place == 0 else self._between(latent))
        return latent

    def decode(self, latent: Tensor) -> NDArray[np.uint8]:
        """T̂_VQ → pictures, uint8 RGB (n, size, size, 3)."""
        return _pictures_out(self._compute(self.decoder.decode, latent))

    def pictures(self, codes: Tensor, mel: Tensor | None, state: ClipState) -> NDArray[np.uint8]:
        """Generated crops of some consecutive frames, uint8 RGB (n, size, size, 3); see ``latents``."""
        made = []
        for start in range(0, len(codes), self.batch_frames):
            part = slice(start, start + self.batch_frames)
            made.append(self.decode(self.latents(codes[part], None if mel is None else mel[part], state)))
        return np.concatenate(made)

    def mel_of_frames(self, mel: NDArray[np.float32], frames: Sequence[int], fps: float) -> Tensor:
        """The sound of each frame: mel (80, steps) → (n, 1, 80, 16)."""
        starts = [per_frame_mel_window(frame, fps, self.mel_convention, MEL_STEPS).start for frame in frames]
        return torch.from_numpy(mel_windows(mel, starts, MEL_STEPS))[:, None]

    # The two modules ----------------------------------------------------------------------------------------

    def _swap(self, latent: Tensor, memory: SourceMemory) -> Tensor:
        assert self.face_swap is not None
        return self._snapped(self._compute(self.face_swap.swap, latent, memory))

    def _sync(self, latent: Tensor, reference: Any, mel: Tensor) -> Tensor:
        """cat(T^U, Lip(T^U, R, audio)); frames that a last window lacks repeat the last one."""
        assert self.lip_sync is not None
        frames, rows = len(latent), latent.shape[2] // 2
        missing = -frames % self.window
        upper = torch.cat([latent, latent[-1:].expand(missing, -1, -1, -1)])[:, :, :rows]
        sound = torch.cat([mel, mel[-1:].expand(missing, -1, -1, -1)]).to(self.device)
        upper, sound = upper.unflatten(0, (-1, self.window)), sound.unflatten(0, (-1, self.window))
        lower = self._compute(self.lip_sync, upper, reference, sound).flatten(0, 1)[:frames]
        return self._snapped(torch.cat([latent[:, :, :rows], lower], dim=2))

    def _between(self, latent: Tensor) -> Tensor:
        """What the second module is given of what the first one made."""
        if self.cascade.space == "latent":
            return latent
        pictures = _pictures_out(self._compute(self.vqgan.decode, latent))
        return self._latent(self._compute(self.vqgan.encode_codes, self._pictures_in(pictures)))

    def _snapped(self, latent: Tensor) -> Tensor:
        return self._compute(self.vqgan.quantize, latent).latent if self.cascade.snap else latent

    # Tensors ------------------------------------------------------------------------------------------------

    def _latent(self, codes: Tensor) -> Tensor:
        return self._compute(self.vqgan.lookup, codes.to(self.device))

    def _pictures_in(self, frames: NDArray[np.uint8]) -> Tensor:
        return as_model(torch.from_numpy(frames).to(self.device))

    @torch.inference_mode()
    def _compute(self, function: Any, *arguments: Any) -> Any:
        """Call a network; what comes out is float32 again."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16):
            made = function(*arguments)
        return made.float() if isinstance(made, Tensor) and made.is_floating_point() else made


def _moved(network: Any, device: str) -> Any:
    return network.to(device).eval() if isinstance(network, torch.nn.Module) else network


def _pictures_out(pictures: Tensor) -> NDArray[np.uint8]:
    return as_uint8(pictures).cpu().numpy()


def _split(frames: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(frames), size):
        yield frames[start : start + size]
