"""A trained VQGAN: the codes of frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from talkgen.data.windows import resize_frames
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
def _open(trained: Trained) -> TrainedVQGAN:
    return TrainedVQGAN(load_network(trained.folder, "vqgan", trained.checkpoint), trained.image_size())


@dataclass(frozen=True)
class FrameCodes:
    """Codes of frames, by the VQGAN of a run.

    Picklable: another process loads the network from the run when it first needs it.

    Attributes:
        trained: the VQGAN's checkpoint.
    """

    trained: Trained

    @property
    def sha256(self) -> str:
        """Of the checkpoint."""
        return self.trained.sha256

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """One batch of crops ``(n, size, size, 3)``, RGB, any size → codes ``(n, h, w)``."""
        network, size = _open(self.trained)
        images = torch.from_numpy(resize_frames(frames, size)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return network.encode_codes(images).numpy().astype(np.uint16)


def load_frame_codes(run: str | Path) -> FrameCodes:
    """The codes of a run's VQGAN; arguments and errors are those of ``load_vqgan``."""
    codes = FrameCodes(find_trained(run, "vqgan", "swaptalk_vqgan"))
    _open(codes.trained)
    return codes
