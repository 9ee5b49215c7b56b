"""A run's training batches as one long epoch that can be taken up anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

from lightning.pytorch import LightningDataModule

from talkgen.errors import TalkgenError


class EpochLoader(Protocol):
    """Batches of one epoch; resumes in the middle of it. ``talkgen.data.loader.WindowLoader`` is one."""

    sampler: Any

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]:
        """Position in the epoch, in batches handed out."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take that position."""


class TrainingStream:
    """``batches`` batches, going through ``loader`` as often as that takes.

    A run is counted in batches. Handing Lightning one epoch of exactly that many keeps everything that hangs
    on epochs (validation, progress, resuming) in one unit, and ``max_steps``, which counts the steps of every
    optimiser, out of it.

    Args:
        loader: gives an epoch when iterated; ``loader.sampler.set_epoch`` says which.
        batches: length of the run.
        one_batch: give the first batch again and again.

    Raises:
        TalkgenError: the loader has no batch to give.
    """

    def __init__(self, loader: EpochLoader, batches: int, one_batch: bool = False) -> None:
        if not len(loader):
            raise TalkgenError("the training split gives no batch: there are fewer windows than batch_size")
        self.loader = loader
        self.batches = batches
        self.one_batch = one_batch
        self.position = 0  # batches handed out
        self.epoch = 0
        self._in_epoch = 0  # of them, in this epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        if self.one_batch:
            self.loader.sampler.set_epoch(0)
            (first,) = itertools.islice(self.loader, 1)
            while self.position < self.batches:
                self.position += 1
                yield dict(first)  # whoever takes it may put other things into it
        while self.position < self.batches:
            self.loader.sampler.set_epoch(self.epoch)
            for batch in self.loader:
                self.position += 1
                self._in_epoch += 1
                yield batch
                if self.position >= self.batches:
                    return
            self.epoch, self._in_epoch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Position in the run, in its epochs, and in the loader."""
        over = self._in_epoch >= len(self.loader)
        return {
            "position": self.position,
            "epoch": self.epoch + over,
            "in_epoch": 0 if over else self._in_epoch,
            "loader": self.loader.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch at which ``state_dict`` was called."""
        self.position, self.epoch, self._in_epoch = state["position"], state["epoch"], state["in_epoch"]
        if not self.one_batch:
            self.loader.load_state_dict(state["loader"])


class HeldOutWindows:
    """A validation loader as Lightning sees it: batches and their number, no sampler for it to look into.

    Args:
        loader: gives the batches.
    """

    def __init__(self, loader: EpochLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


class StreamedData(LightningDataModule):
    """A data module whose training epoch is the whole run, see ``TrainingStream``.

    Args:
        data: gives the loaders.
        batches: length of the run.
        one_batch: train on the first batch again and again.
    """

    def __init__(self, data: LightningDataModule, batches: int, one_batch: bool = False) -> None:
        super().__init__()
        self.data = data
        self.batches = batches
        self.one_batch = one_batch

    def prepare_data(self) -> None:
        """Once a machine."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Once a process; from here on ranks are known."""
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def state_dict(self) -> dict[str, Any]:
        """What the data want to be recognised by."""
        return self.data.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the data say whether they are those of the checkpoint."""
        self.data.load_state_dict(state_dict)

    def train_dataloader(self) -> TrainingStream:
        """The whole run."""
        return TrainingStream(self.data.train_dataloader(), self.batches, self.one_batch)

    def val_dataloader(self) -> Any:
        """Held-out windows; an empty list where the corpus has none."""
        loader = self.data.val_dataloader()
        return HeldOutWindows(loader) if loader else []

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """What the data do on the device."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)
