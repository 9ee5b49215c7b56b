"""Videos with sound of fixed held-out clips, written while a system is trained."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray

from talkgen.data.clip import Clip
from talkgen.data.store import Store
from talkgen.systems.callbacks.ema import EMA
from talkgen.video.writer import VideoWriter

SAMPLE_RATE = 16000
CHUNK = 16  # frames that go through a network at once


class ClipVideos(Callback, ABC):
    """``step-0000000-<clip>.mp4``, every ``every`` batches and at the end.

    Always of the same clips, the first of each held-out identity in turn (no swapped one where there are
    others); averaged weights are used where there are any. A subclass says what a video shows.

    Args:
        folder: where the videos go.
        every: batches between two sets.
        clips: how many clips.
        seconds: length of each video.
    """

    def __init__(self, folder: str | Path, every: int, clips: int = 2, seconds: float = 3.0) -> None:
        self.folder = Path(folder)
        self.every = every
        self.clips = clips
        self.seconds = seconds

    @abstractmethod
    def write(self, data: Any, clip: Clip, other: Clip, system: Any, file: Path) -> None:
        """Write what the system makes of a clip; ``other`` is the next of the clips."""

    def frames(self, clip: Clip) -> int:
        """How many frames of a clip are shown."""
        return min(clip.frames, round(self.seconds * clip.fps))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """How it looks now."""
        done = batch_idx + 1
        if done % self.every == 0 or done == trainer.num_training_batches:
            self.write_all(trainer, pl_module, done)

    def write_all(self, trainer: Trainer, system: LightningModule, batches: int) -> None:
        """One set; the loggers that take videos are shown it."""
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule.data  # type: ignore[attr-defined]
        held_out = data.clips("val")
        clips = choose_clips([clip for clip in held_out if clip.swap_of is None] or held_out, self.clips)
        files = []
        with evaluated(trainer, system):
            for clip, other in zip(clips, [*clips[1:], *clips[:1]], strict=True):
                file = self.folder / f"step-{batches:07d}-{clip.id.replace('/', '_')}.mp4"
                file.parent.mkdir(parents=True, exist_ok=True)
                self.write(data, clip, other, system, file)
                files.append(file)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and files:
                logger.log_video("samples", [str(file) for file in files], step=batches)


def write_beside(
    file: Path, store: Store, clip: Clip, frames: int, rows: Iterable[tuple[NDArray[np.uint8], ...]]
) -> None:
    """A video of pictures side by side, with the sound of the clip's first frames.

    Args:
        file: where.
        store: of the clip.
        clip: whose sound it is; there is none in a store of pictures.
        frames: how many there will be.
        rows: for each frame its pictures, uint8 (h, w, 3), all of one size.
    """
    audio = None
    if store.has(clip, "waveform"):
        samples = min(round(frames / clip.fps * SAMPLE_RATE), store.length(clip, "waveform"))
        audio = (store.array(clip, "waveform", 0, samples).astype(np.float32) / 32768, SAMPLE_RATE)
    writer: VideoWriter | None = None
    with contextlib.ExitStack() as stack:
        for pictures in rows:
            picture = np.concatenate(pictures, axis=1)
            if writer is None:
                height, width = picture.shape[:2]
                made = VideoWriter(file, clip.fps, width, height, audio=audio, synthetic=True)
                writer = stack.enter_context(made)
            writer.write(picture)


@contextlib.contextmanager
def evaluated(trainer: Trainer, system: LightningModule) -> Iterator[None]:
    """The system in eval mode, on averaged weights where a callback keeps them, without gradients."""
    averages = [callback for callback in trainer.callbacks if isinstance(callback, EMA)]  # type: ignore[attr-defined]
    training = system.training
    system.eval()
    for average in averages:
        average.swap(system)
    try:
        with torch.no_grad():
            yield
    finally:
        for average in averages:
            average.swap(system)
        system.train(training)


def choose_clips(clips: list[Clip], count: int) -> list[Clip]:
    """``count`` clips of as many identities as there are: the first of each, then the second of each, …"""
    turns: dict[str, int] = {}
    ranked = []
    for clip in clips:
        turn = turns.get(clip.identity, 0)
        turns[clip.identity] = turn + 1
        ranked.append((turn, clip))
    return [clip for _, clip in sorted(ranked, key=lambda pair: pair[0])[:count]]
