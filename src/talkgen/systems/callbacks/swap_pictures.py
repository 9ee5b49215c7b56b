"""What a face-swapping module makes of fixed held-out pairs, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from talkgen.data.files import write_atomically
from talkgen.data.swap_pairs import KINDS
from talkgen.video.contact_sheet import contact_sheet

COLUMNS = ("source", "target", "swapped", "label")
CAPTIONS = ("source", "target", "swapped", "teacher")


class SwapsFaces(Protocol):
    """A system that can show what it does."""

    def pictures(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """``COLUMNS`` → uint8 ``(b, height, width, 3)``."""


class SwapPictures(Callback):
    """``step-0000000.png`` at every validation: rows of source, target, swapped, teacher's picture.

    The rows are the first validation pairs of two people, always the same; averaged weights are used where
    there are any. A pair without a label has no fourth picture.

    Args:
        folder: where the pictures go.
        rows: how many pairs.
    """

    def __init__(self, folder: str | Path, rows: int = 8) -> None:
        self.folder = Path(folder)
        self.rows = rows
        self._cells: list[NDArray[np.uint8]] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep its pairs of two people, until there are enough."""
        missing = self.rows - len(self._cells) // len(COLUMNS)
        chosen = (batch["kind"] != KINDS.index("same")).nonzero().flatten()[:missing]
        if not trainer.is_global_zero or not len(chosen):
            return
        part = {key: value[chosen] if torch.is_tensor(value) else value for key, value in batch.items()}
        pictures = {name: shown.cpu().numpy() for name, shown in pl_module.pictures(part).items()}  # type: ignore[operator]
        for row, kind in enumerate(part["kind"].tolist()):
            cells = [pictures[name][row] for name in COLUMNS]
            if KINDS[kind] == "free":
                cells[-1] = np.full_like(cells[-1], 255)
            self._cells += cells

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write them."""
        cells, self._cells = self._cells, []
        if not cells:
            return
        sheet = contact_sheet(cells, len(COLUMNS), labels=CAPTIONS * (len(cells) // len(COLUMNS)))
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        file = self.folder / f"step-{done:07d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
