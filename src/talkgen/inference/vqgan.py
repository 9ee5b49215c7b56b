"""A trained VQGAN: the codes of frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.data.windows import resize_frames
from talkgen.errors import TalkgenError
from talkgen.inference.runs import Trained, find_trained, load_network
from talkgen.models.vqgan.vqgan import VQGAN


class TrainedVQGAN(NamedTuple):
    """A network and the size of the pictures that it was trained on, in pixels."""

    network: VQGAN
    size: int


def load_vqgan(run: str | Path) -> TrainedVQGAN:
    """The VQGAN of a run folder (its best checkpoint), or of a checkpoint in one.

    Raises:
        TalkgenError: there is none, or it cannot be loaded.
    """
    return _open(find_trained(run, "vqgan", "swaptalk_vqgan"))


@lru_cache(maxsize=1)
def _open(trained: Trained, device: str = "cpu") -> TrainedVQGAN:
    network = load_network(trained.folder, "vqgan", trained.checkpoint)
    network = network.to(device, memory_format=torch.channels_last)
    return TrainedVQGAN(network, trained.image_size())


@dataclass(frozen=True)
class FrameCodes:
    """Codes of frames, by the VQGAN of a run.

    Picklable: another process loads the network from the run when it first needs it.

    Attributes:
        trained: the VQGAN's checkpoint.
        device: where it computes.
        precision: `32-true`, or `bf16-mixed`, which is faster and gives a few other codes.
    """

    trained: Trained
    device: str = "cpu"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.precision not in ("32-true", "bf16-mixed"):
            raise TalkgenError(f"precision of codes is 32-true or bf16-mixed, not {self.precision!r}")

    @property
    def sha256(self) -> str:
        """Of the checkpoint."""
        return self.trained.sha256

    @property
    def key(self) -> str:
        """What the codes depend on beside the frames."""
        return self.sha256 if self.precision == "32-true" else f"{self.sha256} {self.precision}"

    @property
    def size(self) -> int:
        """Pixels of the pictures that the network was trained on."""
        return self.trained.image_size()

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.trained.folder.path

    def load(self) -> TrainedVQGAN:
        """The network, which is kept until another one is asked for.

        Raises:
            TalkgenError: it cannot be loaded.
        """
        return _open(self.trained, self.device)

    @property
    def batch_size(self) -> int:
        """Frames that are best encoded at once: on a CPU, more of them leave its cache."""
        return 16 if self.device == "cpu" else 64

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """One batch of crops ``(n, size, size, 3)``, RGB, any size → codes ``(n, h, w)``."""
        network, size = self.load()
        pictures = torch.from_numpy(resize_frames(frames, size)).to(self.device).permute(0, 3, 1, 2)
        # frames have their channels last already, and stay so
        images = pictures.float().div_(127.5).sub_(1)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, self.precision == "bf16-mixed"):
            codes = network.encode_codes(images)
        return codes.cpu().numpy().astype(np.uint16)


def load_frame_codes(
    run: str | Path, device: str = "auto", precision: Literal["32-true", "bf16-mixed"] = "32-true"
) -> FrameCodes:
    """The codes of a run's VQGAN. The network is loaded when it is first used, or by ``load()``.

    Args:
        run: a run folder (its best checkpoint is taken), or a checkpoint in one.
        device: where to compute; ``auto`` takes a GPU where there is one.
        precision: see ``FrameCodes``.

    Raises:
        TalkgenError: there is no such run.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return FrameCodes(find_trained(run, "vqgan", "swaptalk_vqgan"), device, precision)
