"""Which calls of a system's networks ``torch.compile`` takes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from talkgen.losses.perceptual import LPIPS
from talkgen.losses.vgg_pyramid import VGGPyramidLoss
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.models.discriminators.patch import PatchDiscriminator
from talkgen.models.disenttalk.denoiser import MotionDenoiser
from talkgen.models.disenttalk.motion_codec import RegionCodec
from talkgen.models.experts.iresnet import IResNet
from talkgen.models.experts.latent_syncnet import LatentSyncNet
from talkgen.models.experts.motion_syncnet import MotionSyncNet
from talkgen.models.experts.syncnet import SyncNet
from talkgen.models.frozen import Frozen
from talkgen.models.pirender.pirenderer import PIRenderer
from talkgen.models.swaptalk.face_swap import FaceSwap
from talkgen.models.swaptalk.face_swap_dit import FaceSwapDiT
from talkgen.models.swaptalk.face_swap_unet import FaceSwapUNet
from talkgen.models.swaptalk.identity_head import LatentIdentityHead
from talkgen.models.swaptalk.lip_sync import LipSync
from talkgen.models.vqgan.decoder import Decoder
from talkgen.models.vqgan.encoder import Encoder
from talkgen.models.vqgan.light_decoder import LightDecoder

CALLED: dict[type[nn.Module], tuple[str, ...]] = {
    Diff2LipUNet: ("denoise",),
    LightDecoder: ("decode",),
    LatentSyncNet: ("embed_audio", "embed_face"),
    MotionSyncNet: ("embed_audio", "embed_mouth"),
    RegionCodec: ("encode", "decode"),
    SyncNet: ("embed_audio", "embed_face"),
    **dict.fromkeys(
        (
            Decoder, Encoder, FaceSwap, FaceSwapDiT, FaceSwapUNet, IResNet, LPIPS, LatentIdentityHead,
            LipSync, MotionDenoiser, PatchDiscriminator, PIRenderer, VGGPyramidLoss,
        ),
        ("forward",),
    ),
}  # fmt: skip
"""Methods that systems call, by class. Quantisers are left out: what a codebook does depends on the data."""


def all_modules(system: nn.Module) -> Iterator[nn.Module]:
    """Every module of a system, those of frozen networks among them."""
    for module in system.modules():
        yield module
        if isinstance(module, Frozen):
            yield from all_modules(module.module)


def compile_networks(system: nn.Module, backend: str = "inductor") -> int:
    """Compile the networks of a system in place; keys of its checkpoints stay as they are.

    The first step of each shape then takes a minute or so. Later ones do the same arithmetic in another order
    of sums.

    Args:
        system: as it was built.
        backend: of ``torch.compile``.

    Returns:
        How many calls are compiled.
    """
    # The adaptive weight of an adversarial term asks for gradients of one graph several times.
    torch._functorch.config.donated_buffer = False
    count = 0
    for module in list(all_modules(system)):
        for name in CALLED.get(type(module), ()):
            if name == "forward":
                module.compile(backend=backend)
            else:
                setattr(module, name, torch.compile(getattr(module, name), backend=backend))
            count += 1
    return count
