"""What the model makes of fixed held-out clips, as videos with sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from talkgen.data.clip import Clip
from talkgen.data.datamodule import TalkingFaceData
from talkgen.data.windows import as_model, as_uint8, resize_frames
from talkgen.systems.callbacks.clip_videos import CHUNK, ClipVideos, write_beside


class Samples(Protocol):
    """A system that can show what it does."""

    def sample(self, video: torch.Tensor) -> torch.Tensor:
        """``(t, 3, h, w)`` in [-1, 1] → generated, the same shape."""


class SampleVideos(ClipVideos):
    """Ground truth on the left, generated on the right; also before the first batch.

    Args:
        folder, every, clips, seconds: see ``ClipVideos``.
        size: pixels of the pictures that the system takes.
    """

    def __init__(
        self, folder: str | Path, every: int, size: int, clips: int = 2, seconds: float = 3.0
    ) -> None:
        super().__init__(folder, every, clips, seconds)
        self.size = size

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """How it looks before training."""
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready == 0:
            self.write_all(trainer, pl_module, 0)

    def write(self, data: TalkingFaceData, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        """Truth and what is generated."""
        count = self.frames(clip)
        truth = resize_frames(data.store.frames(clip, 0, count), self.size)
        dtype = next(system.parameters()).dtype

        def rows() -> Iterator[tuple[NDArray[np.uint8], ...]]:
            for start in range(0, count, CHUNK):
                part = truth[start : start + CHUNK]
                generated = system.sample(as_model(torch.from_numpy(part).to(system.device)).to(dtype))
                yield from zip(part, as_uint8(generated).cpu().numpy(), strict=True)

        write_beside(file, data.store, clip, count, rows())
