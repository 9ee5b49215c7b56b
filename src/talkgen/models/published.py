"""Published checkpoints as networks, by one call: ``load_published("diff2lip", "model260000_paper.pt")``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from talkgen import checkpoints
from talkgen.errors import FileError, TalkgenError
from talkgen.models.diff2lip.unet import Diff2LipUNet
from talkgen.models.experts.sphere20 import load_sphere20
from talkgen.models.experts.syncnet import SyncNet
from talkgen.models.experts.syncnet_v2 import load_syncnet_v2
from talkgen.models.pirender.pirenderer import PIRenderer
from talkgen.models.vqgan.taming import CODEBOOK, load_taming
from talkgen.models.vqgan.vqgan import VQGAN, build_vqgan
from talkgen.models.wav2lip import Wav2Lip

Source = str | Path | Mapping[str, Any]


def load_published(kind: str, path: Source) -> nn.Module:
    """A published network with its weights, in eval mode and without gradients of its parameters.

    Args:
        kind: a key of ``KINDS``.
        path: the file as its authors publish it (or what was read from it); read as weights only.

    Raises:
        TalkgenError: there is no such kind.
        FileError: the file is missing or damaged, or holds another network; the message names the keys.
    """
    if kind not in KINDS:
        raise TalkgenError(f"published networks are {', '.join(KINDS)}, not {kind!r}")
    return KINDS[kind](path).eval().requires_grad_(False)


def _filled(make: Callable[[], nn.Module], layout: str) -> Callable[[Source], nn.Module]:
    def load(path: Source) -> nn.Module:
        network = make()
        checkpoints.load_published(network, path, layout)
        return network

    return load


def _taming(path: Source) -> VQGAN:
    """Width, levels, blocks, attention and codebook are read off the file."""
    weights, _ = checkpoints.published_weights(path, "taming")
    return _taming_of(weights, path)


def _taming_of(weights: Mapping[str, Tensor], path: Source) -> VQGAN:
    try:
        codes, code_dim = weights[CODEBOOK].shape
        channels = len(weights["encoder.conv_in.bias"])
        latent_channels = len(weights["encoder.conv_out.bias"])
    except KeyError as error:
        name = "checkpoint" if isinstance(path, Mapping) else path
        raise FileError(name, f"is no VQGAN of taming-transformers: it has no {error.args[0]}") from error
    levels = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.down."))
    widths = [len(weights[f"encoder.down.{level}.block.0.conv1.bias"]) for level in range(levels)]
    blocks = 1 + max(int(k.split(".")[4]) for k in weights if k.startswith("encoder.down.0.block."))
    attention = [n for n in range(levels) if f"encoder.down.{n}.attn.0.q.weight" in weights]
    vqgan = build_vqgan(
        channels,
        [width // channels for width in widths],
        blocks,
        attention,
        latent_channels,
        codes,
        code_dim,
        halves=False,
        codebooks=1,
        mode="gradient",
    )
    load_taming(vqgan, path if not isinstance(path, Mapping) else weights)
    return vqgan


KINDS: dict[str, Callable[[Source], nn.Module]] = {
    "diff2lip": _filled(Diff2LipUNet, "diff2lip"),
    "wav2lip": _filled(Wav2Lip, "wav2lip"),
    "wav2lip_syncnet": _filled(SyncNet, "wav2lip"),
    "taming_vqgan": _taming,
    "syncnet_v2": load_syncnet_v2,
    "pirender": _filled(PIRenderer, "pirender"),
    "cosface_sphere20": load_sphere20,
}
"""Kind → what makes the network from a file: Diff2Lip's UNet, Wav2Lip's generator and expert, a VQGAN of
taming-transformers, the SyncNet of LSE-C, PIRender's generator, the recogniser of ID retrieval."""
